// Shows the fibers that a process leaves behind when it ends inside a run.
#pragma once

namespace creel::detail {

// In debug mode: writes all fibers of the calling thread's run to stderr, with their backtraces,
// below a line "creel: debug: EVENT". Else does nothing. For a process that is about to end: it
// blocks the thread, 20 s at most. Threads: the run's.
void tell_pending_fibers(const char* event) noexcept;

} // namespace creel::detail
