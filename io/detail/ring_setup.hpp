// Opening an io_uring, and telling a person why one cannot be had.
#pragma once

#include <liburing.h>

#include <string>

namespace creel::io::detail {

// A call that was refused, and what else tells why.
struct refusal {
    int error_number;
    const char* call;
    int sysctl = 0;      // kernel.io_uring_disabled (Linux 6.6); 0 where there is none
    bool exempt = false; // the process may use io_uring although that is 1
};
// Whose doing it is, in words, and what helps.
[[nodiscard]] std::string text_of(const refusal& r);

// Sets up the ring and its wake descriptor, which is returned.
// Throws: std::system_error with the remedy in its text.
[[nodiscard]] int set_up_ring(io_uring& uring, unsigned entries, unsigned completion_entries);

} // namespace creel::io::detail
