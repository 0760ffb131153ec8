// Opening an io_uring, and telling a person why one cannot be had.
#pragma once

#include <liburing.h>

namespace creel::io::detail {

// Sets up the ring and its wake descriptor, which is returned.
// Throws: std::system_error with the remedy in its text.
[[nodiscard]] int set_up_ring(io_uring& uring, unsigned entries, unsigned completion_entries);

} // namespace creel::io::detail
