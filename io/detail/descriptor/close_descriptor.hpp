// How a descriptor is closed: without stopping the thread.
#pragma once

namespace creel::io::detail {

// Closes: at once; on a helper thread where SO_LINGER would have close(2) wait (`may_linger`: look
// whether it is set); not at all for 0, 1 and 2, which are the process's and only borrowed. The
// number is free again when this returns, but for one that lingers. Threads: any.
// Cost: close(2); with `may_linger` a system call more.
void close_descriptor(int fd, bool may_linger) noexcept;

} // namespace creel::io::detail
