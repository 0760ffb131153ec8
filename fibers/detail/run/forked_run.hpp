// What a child has of a run inside which it was forked: a copy of the fibers, and nothing that
// would wake them, for the outside world is the parent's. So the child may call exec or _exit. What
// would wait, wake or spawn there aborts with a message; a copy of a fiber that went on would do a
// second time what it does in the parent.
//
// No call asks first whether the process was forked: the child's thread has no scheduler any more,
// and what finds none asks then.
#pragma once

namespace creel::detail {

// True on a thread that has forked inside a run, in the child. Threads that the child starts are as
// those of any process.
extern constinit thread_local bool run_is_in_parent;

// Aborts with a message if it is.
void refuse_in_forked_run(const char* call) noexcept;

} // namespace creel::detail
