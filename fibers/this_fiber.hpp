// Functions by which a fiber yields, sleeps and asks about itself. They work on plain threads too.
#pragma once

#include <creel/fibers/time.hpp>

#include <cstdint>
#include <string_view>

namespace creel {

// The time by the clock of the calling thread's scheduler (a virtual clock in deterministic tests),
// else by the steady clock. Reads the clock at each call.
// Threads: any. Cost: about 24 ns.
[[nodiscard]] time_point now() noexcept;

namespace this_fiber {

// Goes to the back of the ready queue. If no other fiber is ready, it polls for I/O, timers and
// cancels at once. Else the thread polls after at most 64 switches, or after fewer if the fibers
// compute for long between switches. A loop that must keep a time limit calls checkpoint(). Checks
// for a cancel before and after.
// Parks: always, and the other ready fibers run. Cancel: yes. Threads: any. Throws: cancelled.
// Cost: a switch, or a poll.
void yield();

// For loops that compute for a long time. Spends one unit of the fiber's budget. Yields only when
// the budget is used up or the thread has not polled for 5 ms. So the loop sees a deadline, or
// another thread's cancel, within 10 ms plus the time between two calls. Checks for a cancel before
// and after.
// Parks: when it yields. Cancel: yes. Threads: any. Throws: cancelled. Cost: a coarse clock, 5 ns.
void checkpoint();

// Sleeps for at least this duration, or until this time. For a duration of zero or less, or a time
// that has passed, it only yields.
// Parks: yes. Cancel: yes. Threads: any. Throws: cancelled; std::bad_alloc, as park_until().
// Cost: a timer and a switch.
void sleep_for(saturating_duration d);
void sleep_until(saturating_time_point deadline);

// The number of the calling task or fiber, unique in the process; 0 on a thread without a
// scheduler.
// Threads: any. Cost: some loads.
[[nodiscard]] std::uint64_t id() noexcept;

// The name given to spawn; "main" for the fiber that called io::run; empty if there is no name.
// Valid until the fiber ends.
// Threads: any. Cost: some loads.
[[nodiscard]] std::string_view name() noexcept;

} // namespace this_fiber
} // namespace creel
