// The way into a nursery for other threads; shared by the nursery and its remote handles.
//
// Lifetime. The entry lives as long as somebody refers to it: the nursery until it closes, each
// handle, and the scheduler's inbox while the entry is posted there. `core` is set as long as the
// nursery takes children; it is cleared under the mutex, by the nursery's own thread, once the last
// child has ended and nothing more was handed in. So who holds the mutex and sees `core` set knows
// that the nursery, its run and its scheduler are there, and stay until he lets go. What he has
// handed in is then either found by close(), and keeps the nursery open as any child, or came after
// and was refused. An entry posted late is delivered before its scheduler leaves the run, which
// empties the inbox after the last nursery has closed; it may then have nothing left to do.
#pragma once

#include <creel/fibers/detail/run/ready_queue.hpp>
#include <creel/fibers/detail/task/task_record.hpp>
#include <creel/fibers/spawn_options.hpp>
#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <source_location>

namespace creel::detail {

class scheduler;
struct nursery_core;
struct token_state;

class remote_entry : inbox_node {
public:
    // With one reference, the nursery's. `token` is the nursery's own.
    remote_entry(nursery_core& core, scheduler& home, std::shared_ptr<token_state> token,
                 bool refusing) noexcept;

    // Threads: any. relaxed: who copies a handle has one; drop_reference orders the end.
    void add_reference() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
    void drop_reference() noexcept;

    // A task to be filled with its closure, or null if it would be refused. Threads: any.
    // Throws: std::bad_alloc.
    task_record* make_task(const spawn_options& options, std::size_t closure_bytes,
                           std::size_t closure_align, std::source_location where);
    // Without its closure. Threads: any.
    static void discard_task(task_record& t) noexcept;
    // Hands the task in, or destroys it and returns false. Threads: any.
    bool submit(task_record& t) noexcept;

    // The nursery's thread: its cancel has come, or was taken back by a shield; what was handed in
    // becomes children; the end, and false if there are children after all.
    void refuse(bool refusing) noexcept;
    void adopt() noexcept;
    bool close() noexcept;

private:
    ~remote_entry() = default;

    [[nodiscard]] bool accepts() noexcept;

    scheduler* const home_; // immortal
    const std::shared_ptr<token_state> token_;
    std::atomic<std::size_t> references_{1};
    std::mutex mutex_;
    nursery_core* core_;    // guarded by mutex_, as all below; written by the nursery's thread only
    bool refusing_;         // the nursery is cancelled
    bool posted_ = false;   // in home_'s inbox
    ready_queue handed_in_; // oldest first
};

} // namespace creel::detail
