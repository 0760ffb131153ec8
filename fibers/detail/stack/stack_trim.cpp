// How a stack_pool gives memory and address space back.
#include <creel/fibers/detail/stack/stack_pool.hpp>

#include <creel/fibers/detail/system/valgrind.hpp>

#include <algorithm>
#include <functional>
#include <new>
#include <vector>

#include <sys/mman.h>

namespace creel::detail {

void stack_pool::trim(std::size_t keep_warm) noexcept {
    for (size_class& sizes : classes_)
        if (sizes.warm() > keep_warm)
            trim_oldest(sizes, sizes.warm() - keep_warm);
}

std::size_t stack_pool::trim_unneeded(std::size_t most_bytes) noexcept {
    for (size_class& sizes : classes_) {
        if (sizes.unneeded == 0)
            continue;
        const std::size_t count =
            std::clamp(most_bytes / sizes.stack_bytes, std::size_t{1}, sizes.unneeded);
        sizes.unneeded -= count;
        trim_oldest(sizes, count);
        return count;
    }
    return 0;
}

void stack_pool::begin_period() noexcept {
    for (size_class& sizes : classes_)
        sizes.unneeded = sizes.warm();
}

void stack_pool::discard_below(stack_memory stack, std::size_t kept_bytes) noexcept {
    if (stack.bytes > kept_bytes)
        ::madvise(stack.top - stack.bytes, stack.bytes - kept_bytes, MADV_DONTNEED);
}

// Transition 5 of a stack, for the warm stacks that were released first; and 7 for arenas that
// have become idle by it.
void stack_pool::trim_oldest(size_class& sizes, std::size_t count) noexcept {
    forget_guards_ahead(sizes);
    std::byte** const first = sizes.idle.data() + sizes.trimmed;
    std::byte** const last = first + count;
    // The lowest address comes last and is reused first: a few stacks then stay in few arenas.
    std::sort(first, last, std::greater<>{});
    for (std::byte** begin = first; begin != last;) {
        arena& current = sizes.arena_of(*begin);
        std::byte** const end = std::find_if(
            begin, last, [&current](const std::byte* top) { return top <= current.base; });
        current.live -= static_cast<std::size_t>(end - begin);
        if (current.live != 0)
            discard(sizes, begin, end);
        begin = end;
    }
    sizes.trimmed += count;
    warm_ -= count;
    sizes.unneeded = std::min(sizes.unneeded, sizes.warm());
    unmap_idle_arenas(sizes);
}

// Gives the memory of these stacks back; their tops are sorted downwards. Guards of both kinds
// survive MADV_DONTNEED, so one call serves a run of neighbours.
void stack_pool::discard(size_class& sizes, std::byte* const* first,
                         std::byte* const* last) noexcept {
    const std::size_t slot_bytes = guard_bytes_ + sizes.stack_bytes;
    while (first != last) {
        std::byte* const end = *first;
        std::byte* begin = end - slot_bytes;
        while (++first != last && *first == begin)
            begin -= slot_bytes;
        ::madvise(begin, static_cast<std::size_t>(end - begin), MADV_DONTNEED);
    }
}

// Transition 7 of a stack: unmaps the arenas in which no stack is in use, warm or guarded ahead.
void stack_pool::unmap_idle_arenas(size_class& sizes) noexcept {
    const std::size_t slots_before = sizes.slots;
    for (arena& each : sizes.arenas) {
        if (each.live != 0)
            continue;
        if (::munmap(each.base, each.bytes) != 0) {
            // The kernel has joined neighbouring mappings, and may not split one once the process
            // has vm.max_map_count of them.
            ::madvise(each.base, each.bytes, MADV_DONTNEED);
            continue;
        }
        forget_in_valgrind(each);
        if (sizes.unused_end == each.base + each.bytes)
            sizes.unused = sizes.unused_end = sizes.guarded = nullptr;
        sizes.slots -= each.stacks;
        mapped_bytes_ -= each.bytes;
        each.stacks = 0;
    }
    if (sizes.slots == slots_before)
        return;

    const arena* recent = &sizes.arenas.front(); // trimmed stacks of one arena lie side by side
    const auto is_gone = [&](const std::byte* top) {
        if (top <= recent->base || top > recent->base + recent->bytes)
            recent = &sizes.arena_of(top);
        return recent->stacks == 0;
    };
    const auto trimmed_end = sizes.idle.begin() + static_cast<std::ptrdiff_t>(sizes.trimmed);
    const auto kept_end = std::remove_if(sizes.idle.begin(), trimmed_end, is_gone);
    sizes.trimmed = static_cast<std::size_t>(kept_end - sizes.idle.begin());
    sizes.idle.erase(kept_end, trimmed_end);
    std::erase_if(sizes.arenas, [](const arena& each) { return each.stacks == 0; });
    if (sizes.arenas.empty())
        sizes.next_arena_stacks = 0;
    shrink_idle(sizes);
}

void stack_pool::forget_in_valgrind(const arena& unmapped) noexcept {
    const auto first = known_to_valgrind_.upper_bound(unmapped.base);
    const auto last = known_to_valgrind_.upper_bound(unmapped.base + unmapped.bytes);
    for (auto each = first; each != last; ++each)
        valgrind_drop_stack(each->second);
    known_to_valgrind_.erase(first, last);
}

// The list of idle stacks shrinks with the arenas. It keeps room for every stack.
void stack_pool::shrink_idle(size_class& sizes) noexcept {
    if (sizes.idle.capacity() <= std::max(4 * sizes.slots, most_arena_stacks))
        return;
    try {
        std::vector<std::byte*> smaller;
        smaller.reserve(sizes.slots);
        smaller.assign(sizes.idle.begin(), sizes.idle.end());
        sizes.idle.swap(smaller);
    } catch (const std::bad_alloc&) {
        // The larger list stays.
    }
}

} // namespace creel::detail
