// What a fiber can do to and ask about itself. All of it works on plain threads too.
#pragma once

#include <creel/fibers/time.hpp>

#include <cstdint>
#include <string_view>

namespace creel {

// The time, by the clock of the calling thread's scheduler (a virtual one in deterministic tests),
// else by the steady clock. Read afresh. Cost: about 24 ns.
[[nodiscard]] time_point now() noexcept;

namespace this_fiber {

// Goes to the back of the ready queue; if no other fiber is ready it polls for I/O, timers and
// cancels at once. Else they are polled for after at most 64 switches, and where fibers compute for
// long between these, after fewer: a loop that must keep a limit calls checkpoint(). Checks for
// cancel before and after.
// Parks: always lets the others run. Cancel: yes. Threads: any. Throws: cancelled. Cost: a switch,
// or a poll.
void yield();

// For loops that compute for long. Spends one unit of the fiber's budget and yields only when it is
// used up, or when the thread has not polled for 5 ms: so a deadline, or another thread's cancel,
// is seen within 10 ms and the time between two calls. Checks for cancel before and after. Parks:
// when it yields. Cancel: yes. Threads: any. Throws: cancelled. Cost: a coarse clock, 5 ns.
void checkpoint();

// Sleeps, never less than asked. A duration that is zero or less, or a time that has passed, only
// yields. Parks: yes. Cancel: yes. Threads: any. Throws: cancelled. Cost: a timer and a switch.
void sleep_for(saturating_duration d);
void sleep_until(saturating_time_point deadline);

// A number unique in the process; 0 on a thread without a scheduler.
[[nodiscard]] std::uint64_t id() noexcept;

// As given to spawn; "main" for the fiber that called io::run, empty if it has none. Valid until
// the fiber ends. Threads: any.
[[nodiscard]] std::string_view name() noexcept;

} // namespace this_fiber
} // namespace creel
