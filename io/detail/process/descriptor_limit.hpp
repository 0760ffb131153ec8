// How many descriptors the process may have: the soft limit, RLIMIT_NOFILE.
//
// A server needs a descriptor for each client. The soft limit, in most systems 1024, protects
// programs that use select(2), and a child process may be such a program. So a child of fork() gets
// the old limit back. posix_spawn(), system(), popen() and vfork() run no code in the child, so
// such a child keeps the raised limit.
#pragma once

namespace creel::io::detail {

// Raises the soft limit to the hard limit. Threads: any.
void raise_descriptor_limit() noexcept;

} // namespace creel::io::detail
