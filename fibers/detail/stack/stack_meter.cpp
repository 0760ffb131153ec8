#include <creel/fibers/detail/stack/stack_meter.hpp>

#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/detail/task/task_record.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdio>
#include <new>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

namespace creel::detail {

namespace {

std::size_t page_bytes() noexcept {
    static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    return bytes;
}

// The bytes from the lowest page that holds memory up to the top.
std::size_t used_bytes(stack_memory stack) noexcept {
    std::array<unsigned char, 256> resident;
    const std::size_t page = page_bytes();
    for (std::byte* from = stack.top - stack.bytes; from != stack.top;) {
        const std::size_t pages =
            std::min(static_cast<std::size_t>(stack.top - from) / page, resident.size());
        if (::mincore(from, pages * page, resident.data()) == 0)
            for (std::size_t i = 0; i != pages; ++i)
                if ((resident[i] & 1) != 0)
                    return static_cast<std::size_t>(stack.top - from) - i * page;
        from += pages * page;
    }
    return 0;
}

} // namespace

void stack_meter::measure_living(const task_record& t, stack_memory stack) {
    const std::size_t used = used_bytes(stack);
    const std::source_location& at = t.spawned_at;
    stack_use& use = uses_[site{at.file_name(), at.line(), at.column()}];
    ++use.tasks;
    if (used <= use.most_bytes)
        return;
    use.spawned_at = at;
    use.name = t.name();
    use.stack_bytes = stack.bytes;
    use.most_bytes = used;
}

[[gnu::noinline]] void stack_meter::measure_ended(const task_record& t,
                                                  stack_memory stack) noexcept {
    try {
        measure_living(t, stack);
    } catch (const std::bad_alloc&) {
        // This task is not measured.
    }
    // Gives back the memory below the frame of the madvise call. The handler of a signal may touch
    // that memory again, which only makes the next mark too high.
    constexpr std::uintptr_t call_bytes = 1024;
    const auto frame = reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
    const auto end = (frame - call_bytes) / page_bytes() * page_bytes();
    const auto bottom = reinterpret_cast<std::uintptr_t>(stack.top - stack.bytes);
    if (end > bottom)
        ::madvise(stack.top - stack.bytes, end - bottom, MADV_DONTNEED);
}

void stack_meter::name_nearly_full() const noexcept {
    constexpr std::size_t most_named = 16;
    try {
        std::vector<const stack_use*> full;
        for (const auto& [where, use] : uses_)
            if (use.most_bytes > use.stack_bytes / 4 * 3)
                full.push_back(&use);
        std::sort(full.begin(), full.end(), [](const stack_use* a, const stack_use* b) {
            return a->stack_bytes - a->most_bytes < b->stack_bytes - b->most_bytes;
        });
        for (std::size_t i = 0; i != std::min(full.size(), most_named); ++i)
            std::fprintf(stderr,
                         "creel: debug: stack use of %s: give it more before it overflows, "
                         "n.spawn({.stack_bytes = %zu}, f), or make its frames smaller\n",
                         escaped(to_string(*full[i])).c_str(), 2 * full[i]->stack_bytes);
    } catch (const std::bad_alloc&) { // a hint less
    }
}

} // namespace creel::detail
