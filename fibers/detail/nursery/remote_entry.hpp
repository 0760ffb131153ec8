// The way into a nursery for other threads. The nursery and its remote handles share it.
//
// Lifetime: the nursery until it closes, each handle, and the scheduler's inbox while the entry is
// posted there have a reference to the entry. It is deleted with the last reference.
//
// The states of an entry:
//
//     state     core_   refusing_   a task that is handed in
//     open      set     false       is taken, unless there are max_children
//     refusing  set     true        is refused: the nursery is cancelled
//     closed    null                is refused: the nursery has ended
//     1  open <-> refusing   refuse(), when a cancel comes, or a shield takes it back
//     2  -> closed           close(), once the last child has ended and no task is handed in
// Only the nursery's thread makes these transitions, under the mutex. So a thread that holds the
// mutex and sees `core_` set knows that the nursery, its run and its scheduler exist, and exist
// until it unlocks. A task that it hands in is either found by close(), and keeps the nursery open
// as any child, or comes after close() and is refused.
//
// The scheduler empties its inbox after the last nursery has closed and before it leaves the run.
// So an entry that is posted late is delivered in the same run, and may then have nothing to do.
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

    // Threads: any. relaxed: the copied handle has a reference; drop_reference() orders the end.
    void add_reference() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
    void drop_reference() noexcept;

    // A task in which the caller makes the closure, or null if the task would be refused.
    // Threads: any. Throws: std::bad_alloc.
    task_record* make_task(const spawn_options& options, std::size_t closure_bytes,
                           std::size_t closure_align, std::source_location where);
    // Frees a task that has no closure. Threads: any.
    static void discard_task(task_record& t) noexcept;
    // Hands the task in, or destroys it and returns false. Threads: any.
    bool submit(task_record& t) noexcept;

    // A cancel has come, or a shield has taken it back. Threads: the nursery's, also for the next
    // two.
    void refuse(bool refusing) noexcept;
    // The tasks that were handed in become children.
    void adopt() noexcept;
    // Closes the entry; false if there are children after all.
    bool close() noexcept;

private:
    ~remote_entry() = default;

    [[nodiscard]] bool accepts() noexcept;

    scheduler* const home_; // immortal
    const std::shared_ptr<token_state> token_;
    std::atomic<std::size_t> references_{1};
    std::mutex mutex_;
    nursery_core* core_;    // guarded by mutex_, as all below; the nursery's thread writes it
    bool refusing_;         // the nursery is cancelled
    bool posted_ = false;   // in home_'s inbox
    ready_queue handed_in_; // oldest first
};

} // namespace creel::detail
