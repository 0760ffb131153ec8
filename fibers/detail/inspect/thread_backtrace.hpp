// The backtrace of a thread that does not answer.
//
// A real-time signal interrupts the thread, and the handler walks up its stack. A system call goes
// on behind that (SA_RESTART). Where it would not, as a sleep, the thread gets no signal: the
// kernel tells its stack pointer (proc_pid_syscall(5)), and the asking thread walks up a copy of
// the stack. That walk is shorter where a function keeps its frame in a register that only the
// thread itself has. The same is done if creel has no signal.
//
// A question to a thread, and the function that makes each transition:
//
//   idle ----- 1 backtrace_of() -------------> asked
//   asked ---- 2 the handler, on that thread -> writing
//   writing -- 3 the handler ----------------> written --- 4 backtrace_of() reads ---> idle
//   asked ---- 5 backtrace_of(): no answer --> idle      a handler that comes later does nothing
#pragma once

#include <creel/fibers/detail/unwind/unwind.hpp>

#include <cstddef>
#include <span>

namespace creel::detail {

// While one of these exists, creel has the highest real-time signal that had its default action.
// The last one gives it back, unless the program has put a handler of its own in its place.
// Threads: any.
class backtrace_signal {
public:
    backtrace_signal() noexcept;
    ~backtrace_signal();
    backtrace_signal(const backtrace_signal&) = delete;
    backtrace_signal& operator=(const backtrace_signal&) = delete;

private:
    unsigned generation_; // of processes: a forked child is the next one
};

// Returns how many frames it wrote, the innermost first; 0 if the thread runs and creel has no such
// signal, or if it has not run the handler within 50 ms, as when it has no processor.
// Threads: any.
[[nodiscard]] std::size_t backtrace_of(int thread_id, std::span<code_address> out) noexcept;

} // namespace creel::detail
