// One who waits for what one or few can have at a time. Among the fibers of one thread it is handed
// over, first come first served, which costs a switch that would be made anyway. Towards another
// thread that would make each lock a context switch: nobody could have it from the hand-over until
// that thread has woken. There the first in line is only told that it may try (it is `called`), and
// whoever is quicker has it meanwhile; but once it has waited for a millisecond it is handed over
// to it. These are the normal and the starvation mode of Go's sync.Mutex (Go 1.9, 2017).
#pragma once

#include <creel/fibers/this_fiber.hpp>
#include <creel/fibers/time.hpp>
#include <creel/fibers/wait_list.hpp>

#include <chrono>

namespace creel::sync::detail {

inline constexpr std::chrono::milliseconds barging_limit{1};

struct contender : list_waiter {
    // `since`: when it began to wait, also if this is not its first try.
    contender(const wait_kind& kind, time_point began) noexcept : list_waiter(kind), since(began) {}

    // With the lock held, before it is taken off the list: is it handed over to it? Where the two
    // threads have clocks of their own (virtual ones), it may seem to come from the future.
    [[nodiscard]] bool is_handed_over() const noexcept {
        if (is_here())
            return true;
        const duration waited = creel::now() - since;
        return waited >= barging_limit || waited < duration::zero();
    }

    const time_point since;
    bool has_it = false; // it was handed over; written before the wake
};

} // namespace creel::sync::detail
