// Tells valgrind of the stacks of fibers. Each call is a few instructions that do nothing outside
// valgrind (its "client requests"). If valgrind's header is not installed when creel is built, the
// calls are empty, and valgrind takes a switch of stacks for an overflow.
#pragma once

#include <cstddef>

#if __has_include(<valgrind/valgrind.h>)
#define CREEL_KNOWS_VALGRIND 1
#include <valgrind/valgrind.h>
#else
#define CREEL_KNOWS_VALGRIND 0
#endif

namespace creel::detail {

// Whether this process runs in valgrind.
[[nodiscard]] inline bool under_valgrind() noexcept {
#if CREEL_KNOWS_VALGRIND
    static const bool is = RUNNING_ON_VALGRIND != 0;
    return is;
#else
    return false;
#endif
}

// Returns the number to give to valgrind_drop_stack().
[[nodiscard]] inline unsigned valgrind_add_stack(const std::byte* bottom,
                                                 const std::byte* top) noexcept {
#if CREEL_KNOWS_VALGRIND
    return VALGRIND_STACK_REGISTER(bottom, top - 1);
#else
    static_cast<void>(bottom);
    static_cast<void>(top);
    return 0;
#endif
}

inline void valgrind_drop_stack(unsigned number) noexcept {
#if CREEL_KNOWS_VALGRIND
    VALGRIND_STACK_DEREGISTER(number);
#else
    static_cast<void>(number);
#endif
}

} // namespace creel::detail
