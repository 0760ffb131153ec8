// The untyped half of a nursery: children, errors and the wait for the last child.
//
// The life of a nursery:
//
//            1            2                 3
//     made ─────► open ─────────► settling ─────► settled
//                  │  ▲               │ ▲           (its scope is left)
//                  │  └─ join_in_body └─┘ a child comes
//                  └──────────────────────────────► abandoned
//                                  4
//     1  the constructor: its scope is entered; children may come from here on
//     2  settle(), from join() and race_core::finish(): the opener waits for the children
//        (wait_for_children). Children may still come: from children, from start() and, through the
//        remote_entry, from other threads
//     3  the same call, when no child, no pending start and no task handed in is left: the
//        remote_entry is closed, `open` becomes false, and the scope is left
//     4  abandon(): no child has come, and an error of the caller is on its way
//
// What a member (a child or the body) ends with, and where it is kept until throw_errors() and
// throw_cancelled_members():
//
//     end of the member                      policy cancel      collect        report (a child)
//     returned                               nothing            nothing        nothing
//     an error                               errors, cancels    errors         the handler
//     `cancelled`, the nursery is cancelled  a_cancelled        a_cancelled    a_cancelled
//     `cancelled`, without a cancel          as an error does, but it is kept as a_cancelled, with
//                                            cancelled_astray, and any error displaces it
//     never ran                              a_child_never_ran
// "cancels" is cancel_siblings(). With policy report, the body's error is treated as with policy
// cancel.
#pragma once

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/task/task_record.hpp>
#include <creel/fibers/error_policy.hpp>
#include <creel/fibers/spawn_options.hpp>

#include <atomic>
#include <cstddef>
#include <exception>
#include <limits>
#include <source_location>
#include <string_view>
#include <vector>

namespace creel {
class nursery;
}

namespace creel::detail {

class remote_entry;
struct slot_waiter;

// Threads: the nursery's, but for take_slot().
struct nursery_core {
    static constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();

    nursery_core(error_policy on_error, std::string_view name, std::size_t max_children,
                 std::source_location where);
    ~nursery_core();
    nursery_core(const nursery_core&) = delete;
    nursery_core& operator=(const nursery_core&) = delete;

    // A node with room for a closure, not yet a child. Null if the nursery is cancelled: then spawn
    // drops its closure.
    // Parks: while there are max_children. Throws: std::bad_alloc; cancelled if it had to wait.
    task_record* make_task(const spawn_options& options, std::size_t closure_bytes,
                           std::size_t closure_align, std::source_location where);
    void discard_task(task_record& t) noexcept; // a made task that will not be submitted
    void submit(task_record& t) noexcept;       // becomes the youngest child and is queued
    void submit(task_record& t, task_result& r) noexcept;
    // make_task() and submit() in one, for a closure that fits_warm_task: the caller makes the
    // closure at once, before anything else can run. Null: the caller must call make_task().
    task_record* submit_warm(const closure_kind& kind, std::source_location where) noexcept;
    // The result for the handle of a child that make_task() did not make.
    [[nodiscard]] task_result& refused(const std::source_location& from) const noexcept;
    void adopt(task_record& t) noexcept; // submits a task that another thread has made

    [[nodiscard]] bool cancelled_for_children() const noexcept {
        return core_of(scope).sees_cancel();
    }

    // Places among max_children. A freed place goes to the call of spawn that has waited longest.
    // take_slot(): any thread that knows that the nursery is open; false if there is no place.
    bool take_slot() noexcept;
    void wait_for_slot(); // Parks, cancel: yes
    void free_slot() noexcept {
        if (max_children != unlimited) [[unlikely]]
            hand_on_slot();
    }

    // True if a child's error goes to report()'s handler, or to stderr, and not to failed(). The
    // handler may wait.
    [[nodiscard]] bool reports() const noexcept {
        return policy.kind_ == error_policy::kind_type::report;
    }
    [[nodiscard]] bool has_handler() const noexcept {
        return reports() && policy.handler_ != nullptr;
    }
    void report(std::exception_ptr error, const task_record& child) noexcept;

    // Notes how a child (null: the body) failed. By value: an exception that is not kept is
    // destroyed here, and its destructor is the user's.
    void failed(std::exception_ptr error, bool was_cancelled, const task_record* child) noexcept;
    // Fails the nursery, whatever its policy.
    void fail(std::exception_ptr error) noexcept;
    // A child was dropped by a cancel: it counts as one that ended with `cancelled`.
    void child_never_ran() noexcept { a_child_never_ran = true; }
    // The last step of a child, whose slot is free already.
    void child_ended(task_record& t) noexcept {
        (t.previous != nullptr ? t.previous->next : first_child) = t.next;
        (t.next != nullptr ? t.next->previous : last_child) = t.previous;
        if (--children == 0 && joiner != nullptr && pending_starts == 0)
            wake_joiner();
    }

    // For start(): a child that belongs to another nursery until it is taken over keeps this one
    // open.
    void begin_start();
    void end_start(bool taken_over) noexcept;
    void take_over(task_record& t) noexcept; // from t's nursery, with the scopes below it

    // Waits for all children, including the tasks that other threads have handed in until now.
    void wait_for_children();
    // The same for the body; throws if the body is cancelled then.
    void join_in_body();
    // Waits for all children and leaves the scope. True: the nursery absorbs the cancel.
    bool settle();
    void throw_errors();            // if there are any
    void throw_cancelled_members(); // if a member has ended with `cancelled`, or a child never ran
    void forget_errors() noexcept;
    // Settles, and throws the errors or the `cancelled` of the members.
    void join();
    // Instead of join(), if there is no child and an error is on its way.
    void abandon() noexcept;
    // For a call that has no value because this nursery was cancelled. Throws: task_cancelled.
    [[noreturn]] void throw_absorbed() const;

    remote_entry& remote();

    cancel_scope scope;
    parker* opener;
    task_record* first_child = nullptr;
    task_record* last_child = nullptr;
    std::size_t children = 0;
    std::size_t pending_starts = 0;
    const std::size_t max_children;          // unlimited, or the number of slots
    std::atomic<std::size_t> slots_taken{0}; // if limited; remote handles also take some
    slot_waiter* first_in_line = nullptr;    // parked in wait_for_slot(), oldest first
    slot_waiter* last_in_line = nullptr;
    waiter* joiner = nullptr;      // parked in wait_for_children()
    remote_entry* entry = nullptr; // if remote() was called
    nursery* face = nullptr;       // for the handler of report(); null without nursery_options
    std::vector<std::exception_ptr> errors{}; // in order; an error may be in it several times
    std::exception_ptr a_cancelled{};         // one `cancelled` that a member ended with
    error_policy policy;
    std::string_view name;
    std::source_location where;
    bool open = true; // false once settle() has seen the last child
    bool a_child_never_ran = false;
    bool cancelled_astray = false; // a_cancelled came without a cancel: an error, if the only one
    bool errors_lost = false;      // there was no memory to keep an error
    bool is_of_start = false;      // start() waits in it: it settles also when the child moves away

private:
    void hand_on_slot() noexcept;
    void keep(const std::exception_ptr& error) noexcept;
    void cancel_siblings(const std::exception_ptr& error) noexcept;
    void wake_joiner() noexcept;
    void link(task_record& t) noexcept {
        t.previous = last_child;
        (last_child != nullptr ? last_child->next : first_child) = &t;
        last_child = &t;
        ++children;
    }
};

// The nursery whose children this wait is for; null if it is another kind of wait.
[[nodiscard]] const nursery_core* nursery_awaited_by(const waiter& w) noexcept;

} // namespace creel::detail
