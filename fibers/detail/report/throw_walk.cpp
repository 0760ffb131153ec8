#include <creel/fibers/detail/report/throw_walk.hpp>

#include <creel/fibers/detail/run/scheduler.hpp>

#include <cstdint>

#include <sys/mman.h>
#include <unistd.h>

namespace creel::detail {

namespace {

constexpr std::size_t walk_bytes = 4096; // at most: see unwind.hpp
constexpr std::size_t least_room = 2 * walk_bytes;

// Walks, and gives back the page below this frame if it held no memory before. mincore() leaves as
// much of a frame there as madvise() does, so the page of such a frame counts as one with memory.
[[gnu::noinline]] std::size_t walk_unmeasured(std::span<code_address> out) noexcept {
    constexpr std::uintptr_t call_bytes = 256; // a sanitizer's wrapper of madvise() needs more
    const auto frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    const auto page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    const std::uintptr_t end = (frame - call_bytes) / page_bytes * page_bytes;
    const std::uintptr_t begin = (frame - walk_bytes) / page_bytes * page_bytes; // a page, or none
    unsigned char is_resident = 1;
    if (begin < end)
        static_cast<void>(::mincore(reinterpret_cast<void*>(begin), end - begin, &is_resident));
    const std::size_t count = unwind_here(out, 1);
    if ((is_resident & 1) == 0)
        ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
    return count;
}

} // namespace

[[gnu::noinline]] std::size_t walk_throw(std::span<code_address> out) noexcept {
    const auto frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    if (scheduler* const s = this_scheduler) {
        const fiber_record& self = s->running();
        const auto bottom = reinterpret_cast<std::uintptr_t>(self.stack_bottom);
        // Else the code runs on a stack of its own, or on that of a signal.
        const bool is_known = frame > bottom && frame - bottom < self.stack_bytes;
        if (is_known && frame - bottom < least_room)
            return 0;
        if (is_known && s->meter() != nullptr && self.stack.top != nullptr)
            return walk_unmeasured(out);
    }
    return unwind_here(out, 1);
}

} // namespace creel::detail
