// How a thread of creel's own starts, such as a helper thread of blocking(): with its own signal
// mask and with all cores of the process, whichever thread starts it.
#pragma once

#include <csignal>
#include <pthread.h>

namespace creel::detail {

// Starts a detached thread with every signal blocked except those that a fault of the thread itself
// raises (SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS): if a thread blocks such a signal, the
// kernel ends the process at the fault and calls no handler. Returns 0 or an error number; after
// EAGAIN a later call may succeed. Threads: any.
[[nodiscard]] int start_helper_thread(void* (*body)(void*), void* argument) noexcept;

// The same, for a thread that is to be joined.
[[nodiscard]] int start_joinable_helper_thread(pthread_t& started, void* (*body)(void*),
                                               void* argument) noexcept;

// The signal mask with which such a thread begins.
[[nodiscard]] sigset_t helper_signals() noexcept;

// Lets the calling thread run on every core that the process could use when the program started. A
// thread inherits the affinity of the thread that starts it, and that thread may run a loop pinned
// to one core. Does nothing if the system refuses.
void leave_pinned_core() noexcept;

} // namespace creel::detail
