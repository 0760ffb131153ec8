// The kernel's part of a ring: an io_uring, the eventfd that wakes it, its table of files and its
// provided buffers. The poller over it belongs to one run (ring.hpp); this part goes on to the
// thread's next run.
//
//     made ──► in a run ── 1 keep() ──► kept by its thread ── 2 take() ──► in a run
//                  │                             │
//                  │ 3                           │ 4 close_kept(), or the thread ends
//                  └──────────► closed ◄─────────┘
//
//   1  at the end of a run
//   2  at the beginning of the next
//   3  the kernel refused a call, so the ring is not trusted (ring::give_up_kernel()); or keep()
//      finds that idle threads keep enough rings, or that its thread is ending
//   4  also take(), which closes a smaller ring when it has made one of the wanted size
//
// The set-up of a ring takes about a fifth of the time of an empty run. The kernel gives the
// locked memory of a closed ring back only some milliseconds later: a user who may lock 8 MiB had
// no ring left after 15 short runs.
//
// In a forked child it is still the parent's: there the descriptors are closed at once, and the
// queues are not in the child's memory. Threads: the thread that made it.
#pragma once

#include <creel/io/detail/ring/receive_buffers.hpp>
#include <creel/io/detail/ring/registered_files.hpp>
#include <creel/io/detail/ring/ring_setup.hpp>

#include <liburing.h>

#include <memory>
#include <optional>

namespace creel::io::detail {

class kernel_ring {
public:
    // Throws: std::system_error that says why io_uring is refused and what helps.
    explicit kernel_ring(ring_sizes wanted, bool at_once = false); // see set_up_ring()
    ~kernel_ring();
    kernel_ring(const kernel_ring&) = delete;
    kernel_ring& operator=(const kernel_ring&) = delete;

    [[nodiscard]] io_uring& uring() noexcept { return uring_; }
    [[nodiscard]] int wake_descriptor() const noexcept { return wake_descriptor_; }
    [[nodiscard]] registered_files& files() noexcept { return files_; }

    // Asks the kernel for the buffers the first time; receive_buffers::usable() tells whether it
    // agreed.
    receive_buffers& make_buffers() noexcept;
    [[nodiscard]] receive_buffers& buffers() noexcept { return *buffers_; } // once made
    [[nodiscard]] unsigned buffers_out() const noexcept { return buffers_ ? buffers_->out() : 0; }

    // The ring that the calling thread has kept, if it was made for these sizes; else closes that
    // ring and makes a new one. A kept ring that is smaller than asked for, because memory was
    // short, is replaced by a full-sized ring as soon as there is memory. Throws: as the
    // constructor.
    [[nodiscard]] static std::unique_ptr<kernel_ring> take(ring_sizes wanted);
    // Keeps it for the thread's next run, until the thread ends. Closes it if idle threads keep 16
    // rings already, or if their rings would take more than a quarter of the memory that the user
    // may lock. The kernel must hold nothing that a run has submitted: the caller has reaped the
    // last completion of each entry.
    static void keep(std::unique_ptr<kernel_ring> r) noexcept;
    // Closes the ring that the calling thread keeps, if there is one.
    static void close_kept() noexcept;

private:
    struct registry;

    void forget_run() noexcept;
    void leave_to_parent() noexcept;

    const ring_sizes wanted_;
    io_uring uring_{};
    int wake_descriptor_ = -1;
    registered_files files_{uring_};
    std::optional<receive_buffers> buffers_{}; // from the first use on

    // The list of all kernel_rings of the process, for forks.
    kernel_ring* previous_ = nullptr; // guarded by the registry's mutex, as the next
    kernel_ring* next_ = nullptr;
};

} // namespace creel::io::detail
