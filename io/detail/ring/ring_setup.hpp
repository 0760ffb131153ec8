// Opens an io_uring, tells a person why the kernel refuses one, and knows what this kernel has.
//
// An ordinary user may lock 8 MiB of memory by default, in all processes together. The queues of a
// ring are locked memory: 136 KiB in the default sizes. The kernel gives the memory of a closed
// ring back some milliseconds later. So without memory the set-up waits and asks again, for 127 ms
// in all, and then takes a ring of half the size, down to the smallest.
#pragma once

#include <liburing.h>

#include <cstdint>
#include <string>

namespace creel::io::detail {

// Entries of the two queues. In a request 0 is the default.
struct ring_sizes {
    unsigned submissions = 0;
    unsigned completions = 0;

    friend bool operator==(const ring_sizes&, const ring_sizes&) = default;
};
// Echo servers with 64 and 2,000 connections took the same CPU time per request with 4096
// completion entries and with 16384, which take four times the memory.
constexpr ring_sizes default_ring{1024, 4096};
constexpr ring_sizes smallest_ring{64, 128}; // two pages, the least that a ring takes

// A call that the kernel refused, and the facts that tell why.
struct refusal {
    int error_number;
    const char* call;
    int sysctl = 0;      // kernel.io_uring_disabled (Linux 6.6); 0 without it
    bool exempt = false; // the process may use io_uring although that is 1
};
// In words: what refused the call, and what helps.
[[nodiscard]] std::string text_of(const refusal& r);

// io_uring_queue_init_params and io_uring_queue_exit, ordered for a race detector. A forked child
// does not get the memory of the queues. Threads: any.
[[nodiscard]] int open_uring(io_uring& uring, unsigned entries,
                             io_uring_params& parameters) noexcept;
void close_uring(io_uring& uring) noexcept;

// Sets up a ring of these sizes, or of smaller sizes if memory is short. `at_once`: of these sizes
// or not at all, without a wait for memory. Throws: std::system_error with the remedy in its text.
void set_up_ring(io_uring& uring, ring_sizes wanted, bool at_once);
[[nodiscard]] bool is_smaller(const io_uring& uring, ring_sizes wanted) noexcept;

// The eventfd that wakes a ring. Throws: std::system_error, as above.
[[nodiscard]] int open_wake_descriptor();

// Features of newer kernels that a ring does not need. Rings made after withhold() do without the
// feature, as on an older kernel: for tests. Threads: any.
enum class newer_feature : unsigned { standing_receive = 1, registered_file = 2, message = 4 };
void withhold(newer_feature f) noexcept;
[[nodiscard]] bool is_withheld(newer_feature f) noexcept;

// True if any thread can put a completion into a ring by one system call, without a ring of its
// own: IORING_REGISTER_SEND_MSG_RING (Linux 6.13). Asked of the kernel once.
[[nodiscard]] bool kernel_sends_messages() noexcept;

// Puts a completion with this user_data into that ring, and wakes a thread that sleeps there. False
// if the kernel refuses. Threads: any.
[[nodiscard]] bool send_message(int ring_descriptor, std::uint64_t user_data) noexcept;

} // namespace creel::io::detail
