// How a helper thread of blocking() is started: with the signals and the cores that are right for
// it, whatever thread happens to start it.
#pragma once

#include <csignal>

namespace creel::detail {

// Starts a detached thread in which every signal is blocked, but for those that a fault of the
// thread itself raises (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS): the kernel ends a
// process whose thread blocks those, past any handler. Returns 0 or an error number; EAGAIN may
// pass. Threads: any.
[[nodiscard]] int start_helper_thread(void* (*body)(void*), void* argument) noexcept;

// The mask that such a thread begins with.
[[nodiscard]] sigset_t helper_signals() noexcept;

// Lets the calling thread run wherever the process might as the program started. A thread inherits
// the affinity of the one that starts it, and that may be a loop pinned to its core. Does nothing
// where it cannot.
void leave_pinned_core() noexcept;

} // namespace creel::detail
