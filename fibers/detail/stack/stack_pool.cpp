#include <creel/fibers/detail/stack/stack_pool.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/system/instrumented.hpp>
#include <creel/fibers/detail/system/valgrind.hpp>
#include <creel/fibers/spawn_options.hpp>

#include <algorithm>
#include <bit>
#include <new>
#include <stdexcept>
#include <string>

#include <sys/mman.h>
#include <unistd.h>

#if CREEL_UNDER_ASAN
#include <sanitizer/asan_interface.h>
#endif

namespace creel::detail {

namespace {

constexpr std::size_t least_guard_bytes = 64 * 1024;

// A fiber may leave a stack without returning from its frames: Boost ends a context inside its
// entry function. ASan poisons the memory around locals until their frame returns. Without this it
// would report whatever the next user of the stack, or of the address space, puts there.
void unpoison([[maybe_unused]] stack_memory stack) noexcept {
#if CREEL_UNDER_ASAN
    __asan_unpoison_memory_region(stack.top - stack.bytes, stack.bytes);
#endif
}

} // namespace

void check_stack_bytes(std::size_t bytes, const char* owner) {
    if (bytes > most_stack_bytes)
        throw std::invalid_argument(std::string{"stack_bytes of "} + owner + " is " +
                                    std::to_string(bytes) +
                                    "; a fiber's stack may have at most 1 GiB");
}

stack_pool::stack_pool(stack_guard preferred) noexcept
    : page_bytes_{static_cast<std::size_t>(::sysconf(_SC_PAGESIZE))},
      guard_bytes_{(least_guard_bytes / page_bytes_ | 1) * page_bytes_},
      guard_{preferred},
      installs_many_{
          !under_valgrind()} { // valgrind warns of process_madvise, which it does not know
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

// Transition 6 of a stack.
std::byte* stack_pool::take_trimmed(size_class& sizes) noexcept {
    std::byte* const top = sizes.idle.back();
    sizes.idle.pop_back();
    --sizes.trimmed;
    ++sizes.arena_of(top).live;
    return top;
}

// Transition 2 of a stack, and 1 if no stack has its guard yet.
std::byte* stack_pool::take_unused(size_class& sizes) {
    if (sizes.unused == sizes.guarded)
        install_guards(sizes);
    std::byte* const top = sizes.unused + guard_bytes_ + sizes.stack_bytes;
    if (under_valgrind()) [[unlikely]]
        known_to_valgrind_.emplace(top, valgrind_add_stack(top - sizes.stack_bytes, top));
    sizes.unused = top;
    return top;
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

} // namespace creel::detail
