// The backtrace of a thread that does not answer.
//
// A thread that computes, or that waits for another thread, is interrupted by a real-time signal,
// and the handler walks up its stack. In any other system call it gets no signal, because many do
// not go on behind one as if nothing had been: the kernel tells its stack pointer
// (proc_pid_syscall(5)), and the asking thread walks up a copy of the stack. That walk is shorter
// where a function keeps its frame in a register that only the thread itself has. The same is done
// if creel has no signal.
//
// What remains: a thread may enter a call between the look at it and the signal, and one that the
// kernel works for without a wait (a large write whose reader keeps up) looks as if it computed.
// Only a thread that has long done the same is asked, so the first is rare.
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
// signal, if it has not run the handler within 50 ms, as when it has no processor, or if it waits
// and the kernel does not tell in which call. Waits while a thread loads or unloads a library.
// Threads: any.
[[nodiscard]] std::size_t backtrace_of(int thread_id, std::span<code_address> out) noexcept;

} // namespace creel::detail
