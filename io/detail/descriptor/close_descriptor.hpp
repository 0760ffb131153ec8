// Closes a descriptor without stopping the thread.
#pragma once

namespace creel::io::detail {

// Closes at once. If SO_LINGER would make close(2) wait, a helper thread closes (that is checked
// only if `may_linger`). Descriptors 0, 1 and 2 belong to the process, are only borrowed, and are
// not closed. The number is free again when this returns, unless the descriptor lingers.
// Threads: any. Cost: close(2); with `may_linger` one more system call.
void close_descriptor(int fd, bool may_linger) noexcept;

} // namespace creel::io::detail
