#include "clean_run.hpp"
#include "raw_socket.hpp"
#include "support/seed.hpp"
#include "support/settle.hpp"

#include <creel/io/detail/ring/cancel_queue.hpp>
#include <creel/io/detail/ring/ring.hpp>
#include <creel/io/readiness.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <optional>
#include <random>
#include <vector>

#include <sys/eventfd.h>

namespace io = creel::io;
using namespace creel::test;

TEST_CASE("cancels leave their queue newest operation first, and of those alike the last pushed") {
    const std::uint32_t seed = printed_seed("cancels leave their queue newest first");
    std::minstd_rand random{seed};
    std::deque<io::detail::cancel_entry> requests(1'000);
    io::detail::cancel_queue queue;
    std::vector<const io::detail::cancel_entry*> expected;
    for (auto& r : requests) {
        r.number = random() % 300;
        queue.push(r);
    }
    for (auto& r : requests)
        if (random() % 4 == 0)
            r.unlink(); // its operation has completed
        else
            expected.push_back(&r);
    std::reverse(expected.begin(), expected.end());
    std::stable_sort(expected.begin(), expected.end(),
                     [](const auto* a, const auto* b) { return a->number > b->number; });
    std::vector<const io::detail::cancel_entry*> popped;
    while (!queue.empty())
        popped.push_back(&queue.pop());
    CHECK(popped == expected);
}

namespace {

constexpr unsigned entries_of_ring = 16;

// The entries that the kernel gets, in order: the user_data of waits, and the targets of cancels.
struct handed_over {
    io_uring_sqe* entries = io::detail::current_ring()->entries();
    std::optional<unsigned> next{}; // the index of the next entry; indexes wrap around
    std::vector<std::uint64_t> waits{};
    std::vector<std::uint64_t> cancels{};
    int odd_enters = 0;

    // Construct it when no entry is on its way to the kernel.
    handed_over() { std::memset(entries, 0, entries_of_ring * sizeof *entries); }

    void look(unsigned to_submit, unsigned wait_for, unsigned flags) {
        if (!next) // only the first entry is filled in
            for (unsigned i = 0; i < entries_of_ring; ++i)
                if (entries[i].user_data != 0)
                    next = i;
        unsigned cancelled_here = 0;
        for (unsigned i = 0; i < to_submit; ++i) {
            const io_uring_sqe& entry = entries[(*next + i) % entries_of_ring];
            if (entry.opcode == IORING_OP_POLL_ADD)
                waits.push_back(entry.user_data);
            if (entry.opcode == IORING_OP_ASYNC_CANCEL) {
                cancels.push_back(entry.addr);
                ++cancelled_here;
            }
        }
        // An enter does not wait, and completes all its cancels, so that none delays the next one.
        if (cancelled_here != 0 &&
            (wait_for != cancelled_here || (flags & IORING_ENTER_EXT_ARG) == 0))
            ++odd_enters;
    }
};
handed_over* watched = nullptr;

int watching_enter(unsigned ring, unsigned to_submit, unsigned wait_for, unsigned flags,
                   sigset_t* argument, std::size_t bytes) {
    if (to_submit != 0)
        watched->look(to_submit, wait_for, flags);
    const int result = io_uring_enter2(ring, to_submit, wait_for, flags, argument, bytes);
    if (to_submit != 0 && result > 0)
        *watched->next += static_cast<unsigned>(result);
    return result;
}

} // namespace

// The kernel looks for each target from the newest operation on: in the other order n cancels would
// take n * n steps.
TEST_CASE("fibers cancelled together are cancelled newest operation first, in a small ring too") {
    clean_run({.ring_entries = entries_of_ring}, [] {
        const raw_socket never{::eventfd(0, EFD_CLOEXEC)};
        constexpr std::size_t fibers = 100;
        settle_and_poll(); // submits the entries that the ring itself needs
        handed_over all;
        watched = &all;
        io::detail::current_ring()->set_enter(&watching_enter);
        creel::with_nursery([&](creel::nursery& n) {
            for (std::size_t i = 0; i < fibers; ++i) {
                n.spawn([&] { io::wait_readable(never.get()); });
                if (i == 0)
                    settle_and_poll();
            }
            settle_and_poll();
            n.cancel();
        });
        io::detail::current_ring()->set_enter(&io_uring_enter2);
        CHECK(all.waits.size() == fibers);
        std::reverse(all.waits.begin(), all.waits.end());
        CHECK(all.cancels == all.waits);
        CHECK(all.odd_enters == 0);
    });
}
