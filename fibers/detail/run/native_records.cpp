#include <creel/fibers/detail/run/native_records.hpp>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <mutex>

namespace creel::detail {

namespace {

union block {
    block* next;
    alignas(std::max_align_t) std::array<std::byte, native_reserve::block_bytes> memory;
};

constinit std::array<block, native_reserve::blocks> reserve{};
constinit std::mutex reserve_mutex;  // guards what follows
constinit std::size_t untouched = 0; // blocks from here on were never used
constinit block* given_back = nullptr;

block* take_reserve() noexcept {
    const std::lock_guard lock{reserve_mutex};
    if (block* const b = given_back) {
        given_back = b->next;
        return b;
    }
    return untouched != reserve.size() ? &reserve[untouched++] : nullptr;
}

} // namespace

void* native_reserve::allocate(std::size_t bytes) noexcept {
    if (void* const memory = ::operator new(bytes, std::nothrow))
        return memory;
    if (block* const b = take_reserve())
        return b;
    std::fprintf(stderr,
                 "creel: no memory for one more boost::fibers::fiber, and the reserve for %zu of "
                 "them is used up. Boost.Fiber cannot be refused one: make fewer, or spawn into a "
                 "nursery, which throws std::bad_alloc\n",
                 blocks);
    std::abort();
}

void native_reserve::deallocate(void* memory) noexcept {
    auto* const b = static_cast<block*>(memory);
    if (std::less<>{}(b, reserve.data()) || !std::less<>{}(b, reserve.data() + reserve.size())) {
        ::operator delete(memory);
        return;
    }
    const std::lock_guard lock{reserve_mutex};
    b->next = given_back;
    given_back = b;
}

std::pair<fiber_record&, bool> native_records::of(context* c) noexcept {
    const auto [found, is_new] = living_.try_emplace(c, fiber_record::fiber_kind::native);
    if (is_new && living_.size() > living_.bucket_count()) {
        try {
            living_.rehash(2 * living_.bucket_count());
        } catch (const std::bad_alloc&) {
            // The longer chains serve as well; the next record tries again.
        }
    }
    return {found->second, is_new};
}

} // namespace creel::detail
