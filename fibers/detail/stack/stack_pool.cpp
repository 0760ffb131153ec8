#include <creel/fibers/detail/stack/stack_pool.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/system/instrumented.hpp>
#include <creel/fibers/detail/system/valgrind.hpp>
#include <creel/fibers/spawn_options.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#if CREEL_UNDER_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace creel::detail {

namespace {

constexpr int madv_guard_install = 102; // Linux 6.13; Debian 12's headers lack it
constexpr int pidfd_self = -10000;      // Linux 6.15: this process, without a descriptor
constexpr std::size_t least_guard_bytes = 64 * 1024;
constexpr std::size_t most_guards_at_once = 32;
constexpr std::size_t first_arena_stacks = 16;
constexpr std::size_t most_arena_stacks = 1024;
constexpr std::size_t most_arena_bytes = std::size_t{1} << 28; // without guards

// A fiber may leave a stack without returning from its frames (Boost ends a context inside its
// entry function), and ASan poisons around locals until their frame returns. What the next user of
// the stack, or of the address space, puts there would then be reported.
void unpoison([[maybe_unused]] stack_memory stack) noexcept {
#if CREEL_UNDER_ASAN
    __asan_unpoison_memory_region(stack.top - stack.bytes, stack.bytes);
#endif
}

} // namespace

void check_stack_bytes(std::size_t bytes, const char* whose) {
    if (bytes > most_stack_bytes)
        throw std::invalid_argument(std::string{"stack_bytes of "} + whose + " is " +
                                    std::to_string(bytes) +
                                    "; a fiber's stack may have at most 1 GiB");
}

stack_pool::stack_pool(stack_guard preferred) noexcept
    : page_bytes_{static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))},
      guard_bytes_{(least_guard_bytes / page_bytes_ | 1) * page_bytes_},
      guard_{preferred},
      installs_many_{!under_valgrind()} { // which tells of a call that it does not know
    for (std::size_t index = 0; index != classes_.size(); ++index)
        classes_[index].stack_bytes = std::size_t{1} << (least_stack_bits + index);
}

stack_pool::~stack_pool() {
    for (const size_class& sizes : classes_) {
        CREEL_ASSERT(sizes.in_use == 0, "a fiber's stack outlived its scheduler");
        for (const arena& each : sizes.arenas) {
            forget_in_valgrind(each);
            ::munmap(each.base, each.bytes);
        }
    }
}

stack_memory stack_pool::allocate(std::size_t stack_bytes) {
    size_class& sizes = class_of(stack_bytes);
    std::byte* top = nullptr;
    if (sizes.warm() != 0) [[likely]] {
        top = sizes.idle.back();
        sizes.idle.pop_back();
        sizes.unneeded = std::min(sizes.unneeded, sizes.warm());
        --warm_;
    } else {
        top = sizes.trimmed != 0 ? take_trimmed(sizes) : take_unused(sizes);
    }
    ++sizes.in_use;
    const stack_memory stack{top, sizes.stack_bytes};
    unpoison(stack);
    return stack;
}

void stack_pool::release(stack_memory stack) noexcept {
    size_class& sizes = class_of(stack.bytes);
    CREEL_ASSERT(sizes.in_use != 0, "a stack was released twice, or into another pool");
    unpoison(stack);
    --sizes.in_use;
    sizes.idle.push_back(stack.top);
    ++warm_;
}

void stack_pool::release_unneeded(stack_memory stack) noexcept {
    release(stack);
    ++class_of(stack.bytes).unneeded;
}

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

// Of the warm stacks those that were released first.
void stack_pool::trim_oldest(size_class& sizes, std::size_t count) noexcept {
    forget_guards_ahead(sizes);
    std::byte** const first = sizes.idle.data() + sizes.trimmed;
    std::byte** const last = first + count;
    // Downwards, so that the lowest is reused first: few stacks then stay in few arenas.
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

stack_pool_statistics stack_pool::statistics() const noexcept {
    stack_pool_statistics result;
    result.guard = guard_;
    result.mapped_bytes = mapped_bytes_;
    for (const size_class& sizes : classes_) {
        result.stacks_in_use += sizes.in_use;
        result.stacks_idle += sizes.idle.size();
        result.stacks_trimmed += sizes.trimmed;
        result.arenas += sizes.arenas.size();
        for (const arena& each : sizes.arenas)
            result.mprotect_guards += each.mprotect_guards;
    }
    return result;
}

stack_pool::arena& stack_pool::size_class::arena_of(const std::byte* top) noexcept {
    // A top is its arena's end at most, and never its base.
    const auto above = std::lower_bound(
        arenas.begin(), arenas.end(), top,
        [](const arena& each, const std::byte* address) { return each.base < address; });
    return *std::prev(above);
}

stack_pool::size_class& stack_pool::class_of(std::size_t stack_bytes) {
    const std::size_t least = std::max(std::size_t{1} << least_stack_bits, page_bytes_);
    const auto bits = static_cast<std::size_t>(std::bit_width(std::max(stack_bytes, least) - 1));
    if (bits > most_stack_bits)
        throw std::bad_alloc{};
    return classes_[bits - least_stack_bits];
}

std::byte* stack_pool::take_trimmed(size_class& sizes) noexcept {
    std::byte* const top = sizes.idle.back();
    sizes.idle.pop_back();
    --sizes.trimmed;
    ++sizes.arena_of(top).live;
    return top;
}

std::byte* stack_pool::take_unused(size_class& sizes) {
    if (sizes.unused == sizes.guarded)
        install_guards(sizes);
    std::byte* const top = sizes.unused + guard_bytes_ + sizes.stack_bytes;
    if (under_valgrind()) [[unlikely]]
        known_to_valgrind_.emplace(top, valgrind_add_stack(top - sizes.stack_bytes, top));
    sizes.unused = top;
    return top;
}

void stack_pool::map_arena(size_class& sizes) {
    const std::size_t slot_bytes = guard_bytes_ + sizes.stack_bytes;
    const std::size_t most =
        std::clamp(most_arena_bytes / sizes.stack_bytes, std::size_t{1}, most_arena_stacks);
    std::size_t stacks = std::min(std::max(sizes.next_arena_stacks, first_arena_stacks), most);
    auto* const base = static_cast<std::byte*>(map(stacks, slot_bytes));
    const std::size_t bytes = stacks * slot_bytes;
    try {
        const std::size_t slots = sizes.slots + stacks;
        if (sizes.idle.capacity() < slots)
            sizes.idle.reserve(std::max(slots, 2 * sizes.idle.capacity()));
        const auto above = std::find_if(sizes.arenas.begin(), sizes.arenas.end(),
                                        [base](const arena& each) { return each.base > base; });
        sizes.arenas.insert(above, arena{base, bytes, stacks});
    } catch (const std::bad_alloc&) {
        ::munmap(base, bytes);
        throw;
    }
    // A huge page under a stack would cost 2 MiB where a fiber needs 4 KiB. Kernels without huge
    // pages refuse, which is as well.
    ::madvise(base, bytes, MADV_NOHUGEPAGE);
    sizes.unused = sizes.guarded = base;
    sizes.unused_end = base + bytes;
    sizes.slots += stacks;
    sizes.next_arena_stacks = 2 * stacks;
    mapped_bytes_ += bytes;
}

// Address space for `stacks` stacks, or for as many fewer as there is room for.
void* stack_pool::map(std::size_t& stacks, std::size_t slot_bytes) {
    for (bool has_trimmed = false;;) {
        void* const base = ::mmap(nullptr, stacks * slot_bytes, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
        if (base != MAP_FAILED)
            return base;
        if (stacks > 1) {
            stacks /= 2;
        } else if (!has_trimmed) {
            trim(0); // idle stacks of another size may hold what is missing
            has_trimmed = true;
        } else {
            throw std::bad_alloc{};
        }
    }
}

// Of the next unused stack at least, and of some behind it where that costs little.
void stack_pool::install_guards(size_class& sizes) {
    if (sizes.unused == sizes.unused_end)
        map_arena(sizes);
    const std::size_t slot_bytes = guard_bytes_ + sizes.stack_bytes;
    arena& target = sizes.arena_of(sizes.unused_end);
    std::size_t count = 0;
    if (guard_ == stack_guard::madvise && installs_many_) {
        const auto left = static_cast<std::size_t>(sizes.unused_end - sizes.unused) / slot_bytes;
        const std::size_t wanted =
            std::clamp(target.stacks / 4, std::size_t{1}, most_guards_at_once);
        count = install_many(sizes.unused, std::min(wanted, left), slot_bytes);
    }
    if (count == 0) {
        install_one(target, sizes.unused);
        count = 1;
    }
    target.live += count;
    sizes.guarded = sizes.unused + count * slot_bytes;
}

// How many got theirs; with none, install_one knows why.
std::size_t stack_pool::install_many(std::byte* first, std::size_t count,
                                     std::size_t slot_bytes) noexcept {
    std::array<iovec, most_guards_at_once> guards;
    for (std::size_t index = 0; index != count; ++index)
        guards[index] = {first + index * slot_bytes, guard_bytes_};
    const long done =
        ::syscall(SYS_process_madvise, pidfd_self, guards.data(), count, madv_guard_install, 0);
    if (done < 0) {
        installs_many_ = errno == ENOMEM;
        return 0;
    }
    return static_cast<std::size_t>(done) / guard_bytes_;
}

void stack_pool::install_one(arena& target, std::byte* guard) {
    if (guard_ == stack_guard::madvise) {
        if (::madvise(guard, guard_bytes_, madv_guard_install) == 0)
            return;
        if (errno == ENOMEM)
            throw std::bad_alloc{};
        guard_ = stack_guard::mprotect; // EINVAL: an older kernel, or memory locked by mlockall
    }
    if (::mprotect(guard, guard_bytes_, PROT_NONE) != 0)
        throw std::bad_alloc{}; // ENOMEM: vm.max_map_count
    ++target.mprotect_guards;
}

// Those guarded ahead of use keep no arena alive. Installing their guards again later is harmless.
void stack_pool::forget_guards_ahead(size_class& sizes) noexcept {
    if (sizes.unused == sizes.guarded)
        return;
    const std::size_t slot_bytes = guard_bytes_ + sizes.stack_bytes;
    sizes.arena_of(sizes.unused_end).live -=
        static_cast<std::size_t>(sizes.guarded - sizes.unused) / slot_bytes;
    sizes.guarded = sizes.unused;
}

stack_memory stack_pool::guarded_by(const void* address) const noexcept {
    const auto* const where = static_cast<const std::byte*>(address);
    for (const size_class& sizes : classes_) {
        const std::size_t slot_bytes = guard_bytes_ + sizes.stack_bytes;
        for (const arena& each : sizes.arenas)
            if (where >= each.base && where < each.base + each.bytes) {
                const auto offset = static_cast<std::size_t>(where - each.base);
                if (offset % slot_bytes >= guard_bytes_)
                    return {};
                return {each.base + (offset / slot_bytes + 1) * slot_bytes, sizes.stack_bytes};
            }
    }
    return {};
}

// Gives the memory of idle stacks back, whose tops run downwards. Guards of both kinds survive
// MADV_DONTNEED, so neighbours go in one call.
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

void stack_pool::unmap_idle_arenas(size_class& sizes) noexcept {
    const std::size_t slots_before = sizes.slots;
    for (arena& each : sizes.arenas) {
        if (each.live != 0)
            continue;
        if (::munmap(each.base, each.bytes) != 0) {
            // The kernel joins neighbouring mappings, and cannot split one at vm.max_map_count.
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

// The list of idle stacks goes the way of its arenas; it keeps room for every stack.
void stack_pool::shrink_idle(size_class& sizes) noexcept {
    if (sizes.idle.capacity() <= std::max(4 * sizes.slots, most_arena_stacks))
        return;
    try {
        std::vector<std::byte*> smaller;
        smaller.reserve(sizes.slots);
        smaller.assign(sizes.idle.begin(), sizes.idle.end());
        sizes.idle.swap(smaller);
    } catch (const std::bad_alloc&) {
        // The larger one serves as well.
    }
}

} // namespace creel::detail
