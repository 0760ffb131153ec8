// Closes a descriptor without stopping the thread.
#pragma once

namespace creel::io::detail {

// Closes at once; on a helper thread if SO_LINGER would make close(2) wait (it looks for that only
// if `may_linger`); not at all if it is 0, 1 or 2, which are the process's and only borrowed. The
// number is free again when this returns, unless the descriptor lingers.
// Threads: any. Cost: close(2); with `may_linger` one more system call.
void close_descriptor(int fd, bool may_linger) noexcept;

} // namespace creel::io::detail
