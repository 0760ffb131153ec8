// A child that was forked inside a run has a copy of the fibers, and nothing that would wake them,
// because the outside world belongs to the parent. So the child may call exec or _exit. A call that
// would wait, wake or spawn there aborts with a message: a copy of a fiber that went on would do a
// second time what the fiber does in the parent.
//
// No call asks at its beginning whether the process was forked. The child's thread has no scheduler
// any more, and a call that finds no scheduler asks then.
#pragma once

namespace creel::detail {

// True in the child, on the thread that forked inside a run. Threads that the child starts are like
// those of any process.
extern constinit thread_local bool run_is_in_parent;

// Aborts with a message if that is true.
void refuse_in_forked_run(const char* call) noexcept;

} // namespace creel::detail
