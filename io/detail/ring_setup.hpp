// Opening an io_uring, telling a person why one cannot be had, and what this kernel has.
#pragma once

#include <liburing.h>

#include <cstdint>
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

// io_uring_queue_init_params and io_uring_queue_exit, ordered for a race detector. Threads: any.
[[nodiscard]] int open_uring(io_uring& uring, unsigned entries,
                             io_uring_params& parameters) noexcept;
void close_uring(io_uring& uring) noexcept;

// Sets up the ring and its wake descriptor, which is returned.
// Throws: std::system_error with the remedy in its text.
[[nodiscard]] int set_up_ring(io_uring& uring, unsigned entries, unsigned completion_entries);

// What newer kernels have and a ring can do without. Rings made from now on do without, as on an
// older kernel: for tests. Threads: any.
enum class newer_feature : unsigned { standing_receive = 1, registered_file = 2, message = 4 };
void withhold(newer_feature f) noexcept;
[[nodiscard]] bool is_withheld(newer_feature f) noexcept;

// True if any thread can put a completion into a ring by one system call, without a ring of its
// own: IORING_REGISTER_SEND_MSG_RING (Linux 6.13). Asked of the kernel once.
[[nodiscard]] bool kernel_sends_messages() noexcept;

// Puts a completion of this user_data into that ring, and wakes whoever sleeps there. False if the
// kernel refuses. Threads: any.
[[nodiscard]] bool send_message(int ring_descriptor, std::uint64_t user_data) noexcept;

} // namespace creel::io::detail
