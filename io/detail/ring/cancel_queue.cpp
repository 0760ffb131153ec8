#include <creel/io/detail/ring/cancel_queue.hpp>

#include <array>
#include <utility>

namespace creel::io::detail {
namespace {

// Merges two chains, newest first, that end with a null `next`. Of equal numbers, those of `a` come
// first.
link* merged(link* a, link* b) noexcept {
    link head;
    link* last = &head;
    while (a != nullptr && b != nullptr) {
        const bool b_is_newer =
            static_cast<cancel_entry*>(b)->number > static_cast<cancel_entry*>(a)->number;
        link*& newer = b_is_newer ? b : a;
        last->next = newer;
        last = newer;
        newer = newer->next;
    }
    last->next = a != nullptr ? a : b;
    return head.next;
}

} // namespace

// A merge sort from the bottom up: bins[i] is empty or a chain of 2^i requests. It needs no memory,
// since a poll may not fail.
void cancel_queue::sort() noexcept {
    std::array<link*, 48> bins{};
    while (!waiting_.empty()) {
        link* chain = &waiting_.pop();
        std::size_t i = 0;
        for (; bins[i] != nullptr; ++i) // later pushes come first
            chain = merged(chain, std::exchange(bins[i], nullptr));
        bins[i] = chain;
    }
    link* all = nullptr;
    for (link* const chain : bins) // the higher ones were pushed earlier
        all = merged(all, chain);
    while (all != nullptr) {
        auto& r = static_cast<cancel_entry&>(*all);
        all = all->next;
        r.next = nullptr;
        waiting_.push(r);
    }
    sorted_ = true;
}

} // namespace creel::io::detail
