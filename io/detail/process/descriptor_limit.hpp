// How many descriptors the process may have: the soft limit, RLIMIT_NOFILE.
//
// A server's clients are descriptors, and the soft limit, mostly 1024, is for programs that use
// select(2). A child process may be one of those: one of fork() gets the limit back that was there
// before. posix_spawn(), system(), popen() and vfork() run no code in the child, which has the
// raised one.
#pragma once

namespace creel::io::detail {

// Raises the soft limit to the hard one. Threads: any.
void raise_descriptor_limit() noexcept;

} // namespace creel::io::detail
