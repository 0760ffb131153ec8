// The one way to wait: a fiber (or a plain thread) parks on a waiter until another party wakes it.
//
// Every blocking call of the library stands on this; build your own primitive on it:
//
//     struct gate_waiter : creel::waiter { ... };     // on the stack of the call that waits
//     creel::check_cancel();                          // the cancellation point
//     gate_waiter w{...}; list.push_back(w);          // publish, then
//     if (creel::park(w) == creel::wake_reason::cancelled) creel::throw_cancelled();
//
// The protocol, which every primitive keeps:
//  * Between publishing a waiter and parking on it, the fiber does nothing that may switch.
//  * Exactly one party decides that a waiter is woken. It unlinks the waiter (under the lock of the
//    primitive) and then calls wake() once. After wake() it does not touch the waiter.
//  * A cancel or a timeout asks the waiter to withdraw, on the waiter's own thread. If the waiter
//    is still linked, it unlinks itself and says `withdrawn`: no wake will come, and the fiber is
//    ready. If another party has already taken it (its wake is on the way, or the kernel still
//    works on it), it says `pending`: park() goes on until that wake and returns `signalled`. So a
//    wake and a withdrawal never both happen, and success beats a late cancel.
//
// The states of a waiter, and the cause of each transition:
//
//   published -- 1 park() --------------------> parked     on the waiter's thread
//   published -- 2 wake() --------------------> woken      park() then returns at once
//   parked ----- 3 wake() --------------------> woken      success
//   parked ----- 4 interrupted: withdrawn ----> withdrawn  no wake will come
//   parked ----- 5 interrupted: pending ------> parked     until 3; withdraw_requested() is true
//   published -- 6 park_until() --------------> withdrawn  no memory for its timer
//
//   4 and 5 come from a cancel or from the waiter's own timer.
#pragma once

#include <creel/fibers/build_check.hpp>
#include <creel/fibers/time.hpp>

#include <cstdint>
#include <string>

namespace creel {

// timed_out is the waiter's own timer (park_until); the deadline of a scope shows as cancelled.
enum class wake_reason : std::uint8_t { signalled, timed_out, cancelled };

enum class withdrawal : std::uint8_t { withdrawn, pending };

class waiter;
class wake_batch;

namespace detail {
struct parker;
class scheduler;

// The calling thread's scheduler, or null. Read directly, also across switches: fibers never move
// between threads, so an address that the compiler has cached stays right.
extern constinit thread_local scheduler* this_scheduler;
} // namespace detail

// The form in which one thread hands work to another: a link, and a function to call on the owner's
// thread. It goes into the inbox of a scheduler or of an io ring.
struct inbox_node {
    inbox_node* next_in_inbox = nullptr;
    void (*deliver)(inbox_node&) noexcept = nullptr;
};

// Tells callers apart: the number of a task, fiber or plain thread, which no other ever has. Never
// 0.
using party_number = std::uint64_t;
// The numbers of plain threads are in a range of their own: those of fibers stay below.
inline constexpr party_number first_thread_party = party_number{1} << 63;

// One static table per kind of wait.
struct waiter_kind {
    using holder_function = party_number (*)(const waiter&) noexcept;
    using text_function = void (*)(const waiter&, std::string& text);

    // Asks the waiter to give up because of `why`. Called at most once per park, on the waiter's
    // own thread, while its fiber is parked; never for a kind that is not cancellable, except by
    // the waiter's own timer. Must not switch, throw or run user code.
    withdrawal (*withdraw)(waiter&, wake_reason why) noexcept;

    // Appends what the waiter waits for, in words for a person: "recv from 10.0.0.1:80". The dump
    // uses it.
    text_function describe;

    // False for the few waits that no cancel may end: close(), the wait for children, plain lock().
    bool cancellable = true;

    // True if fibers that wait for the same thing, such as a mutex, have the same text. A dump of
    // many fibers puts them together by it; false: by the kind.
    bool is_told_by_text = false;

    // For a wait that one party alone can end: that party, such as the holder of a lock; 0 if it is
    // not known. Dumps name it, and the search for deadlocks follows it (held_wait.hpp). Called on
    // the waiter's own thread, between two switches, while its fiber is parked. Null: any party may
    // end the wait.
    holder_function holder = nullptr;

    // Appends what a dump says of this wait alone: ", 2nd in line". Called as `holder`. Null:
    // nothing.
    text_function add_details = nullptr;

    // True if the wait ends when its holder, which is a task, has ended.
    bool is_for_end = false;

    // True if only another fiber or a thread ends the wait: no operation, and no timer but its own.
    // It matters where spawn_options::is_background is used. A list_waiter has it; false is always
    // safe.
    bool needs_party = false;
};

// The object that one park waits on. It lives on the stack of the fiber that parks, and belongs to
// one park.
class waiter : inbox_node {
public:
    // Binds to the calling fiber or thread.
    explicit waiter(const waiter_kind& kind) noexcept;

    waiter(const waiter&) = delete;
    waiter& operator=(const waiter&) = delete;

    [[nodiscard]] const waiter_kind& kind() const noexcept { return *kind_; }

    // True once a cancel or a timeout has asked this waiter to withdraw. Threads: the waiter's.
    [[nodiscard]] bool withdraw_requested() const noexcept { return withdraw_requested_; }

    // True if it belongs to a fiber of the calling thread. Threads: any.
    [[nodiscard]] bool is_here() const noexcept {
        return home_ != nullptr && home_ == detail::this_scheduler;
    }

private:
    friend class detail::scheduler;
    friend class wake_batch;
    friend wake_reason park(waiter&);
    friend wake_reason park_until(waiter&, saturating_time_point, saturating_duration);
    friend void wake(waiter&) noexcept;

    wake_reason park_thread(time_point own_deadline);

    const waiter_kind* kind_;
    detail::parker* owner_;
    detail::scheduler* home_; // the owner's; null for a plain thread
    bool woken_ = false;      // own thread only: the wake came
    bool withdraw_requested_ = false;
    bool has_timer_ = false; // park_until()
};

// The number of the caller. For primitives that know their owner.
// Threads: any. Cost: four loads.
[[nodiscard]] party_number this_party() noexcept;

// The present time, or the time at which the caller's thread last polled. The latter costs no clock
// read; it is some microseconds old, or as old as a fiber has computed since. Threads: any; a plain
// thread gets the present.
[[nodiscard]] time_point recent_time() noexcept;

// Parks the caller until the waiter is woken or, in a cancelled scope, withdrawn. The result says
// which. park() itself throws nothing, so that the caller can first put its own state in order.
// Parks: yes. Cancel: if the kind says so; then returns `cancelled`, or `signalled` when the
// waiter was pending. Threads: any; a plain thread blocks. Cost: one switch, no allocation.
[[nodiscard]] wake_reason park(waiter&);

// The same with a timer of the waiter's own. `span` is the relative duration the deadline was made
// from, if there was one; equal spans share a FIFO list in the timer queue, which makes the usual
// constant timeouts cheap. Nothing fires early. Throws: std::bad_alloc when there is no memory for
// the timer; the waiter is withdrawn then (or it was woken, and that is returned instead).
[[nodiscard]] wake_reason park_until(waiter&, saturating_time_point deadline,
                                     saturating_duration span = {});

// Wakes the fiber or thread that is parked, or about to park, on this waiter: see the protocol
// above. Exactly once per waiter, and not after a withdrawal. The waiter may be destroyed when this
// returns.
// Threads: any. Cost: a push to a queue; another thread is woken by the kernel only if it sleeps.
void wake(waiter&) noexcept;

// The cancellation point: every cancellable call that may park begins with it, even when it need
// not wait. Throws `cancelled` if the caller's scope is cancelled, and spends one unit of the
// fiber's budget; at zero it yields, so that a queue that is never empty starves no other fiber.
// Parks: when the budget is spent. Cancel: yes, before anything has happened. Threads: any.
// Throws: cancelled. Cost: two loads and a decrement; a plain thread in a scope with a deadline
// reads the clock. A fiber does not read it: a deadline that passes while the fiber computes is
// seen once it has fired, at the next wait that switches or when the budget is spent.
void check_cancel();

// check_cancel() for a caller that holds a lock that belongs to the thread (a std::mutex), which
// must not be held over a switch. False where check_cancel() would yield: let go of the lock, and
// then yield.
// Parks: never. Cancel: yes. Threads: any. Throws: cancelled. Cost: as check_cancel.
[[nodiscard]] bool check_cancel_in_place();

// The check alone, which leaves the budget as it is and never yields.
// Parks: never. Cancel: yes. Threads: any. Throws: cancelled. Cost: as check_cancel.
void check_cancel_only();

// Throws `cancelled` with the reason of the scope that will absorb it. Call it after park()
// returned wake_reason::cancelled, or when a pending operation turned out to be cancelled.
[[noreturn]] void throw_cancelled();

// For messages, the fiber that waits: "worker (#17, spawned at server.cpp:42)"; "another's fiber"
// for a fiber of another thread, of which nothing is read; without memory "a fiber".
[[nodiscard]] std::string name_of_waiting(const waiter& w) noexcept;

} // namespace creel
