// What a ring has of the kernel: an io_uring, the eventfd that wakes it, its table of files and its
// provided buffers. The poller over it is a run's (ring.hpp); this goes on to the thread's next
// run.
//
//     made ──► in a run ──► kept by its thread ──► in a run ... ──► closed
//                     └──────► closed: the kernel refused a call, and so it is not trusted
//
// Setting a ring up takes longer than anything else of a run, and the kernel gives the locked
// memory of an ended one back only some milliseconds later: a user who may lock 8 MiB had no ring
// left after 15 short runs.
//
// In a forked child it is the parent's: there the descriptors are closed at once, and the queues
// are not in its memory. Threads: the one that made it.
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

    // The first time it asks the kernel for them; whether it got them, they tell themselves.
    receive_buffers& make_buffers() noexcept;
    [[nodiscard]] receive_buffers& buffers() noexcept { return *buffers_; } // once made
    [[nodiscard]] unsigned buffers_out() const noexcept { return buffers_ ? buffers_->out() : 0; }

    // The calling thread's kept one, if it was asked for with these sizes; else that one is closed,
    // and a new one made. One that is smaller than asked for, since memory was short, goes for a
    // whole one as soon as that can be had. Throws: as the constructor.
    [[nodiscard]] static std::unique_ptr<kernel_ring> take(ring_sizes wanted);
    // For the thread's next run, until the thread ends; or closes it, if the rings that idle
    // threads keep would take more than a quarter of the memory that the user may lock, or are 16.
    // The kernel holds nothing any more that a run has submitted: the caller has reaped the last
    // completion of each.
    static void keep(std::unique_ptr<kernel_ring> r) noexcept;
    // Closes the one the calling thread keeps, if it does.
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

    // All of the process, for forks.
    kernel_ring* previous_ = nullptr; // guarded by the registry's mutex, as the next
    kernel_ring* next_ = nullptr;
};

} // namespace creel::io::detail
