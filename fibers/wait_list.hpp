// Who waits, in order: the intrusive list that every primitive of sync/ stands on. Build your own
// with it: a little state, one wait_lock, and a wait_list for each thing that can be waited for.
//
//     class gate {
//     public:
//         void pass() {
//             creel::check_cancel();
//             creel::list_waiter me{creel::plain_wait}; // on the stack of the one who waits
//             {
//                 const std::lock_guard hold{lock_};
//                 if (open_)
//                     return;
//                 waiting_.push_back(me);
//             }
//             me.wait(); // throws `cancelled` if that was first
//         }
//         void open() {
//             creel::wake_batch woken; // declared first: wakes last, when the lock is free again
//             const std::lock_guard hold{lock_};
//             open_ = true;
//             waiting_.take_all(woken);
//         }
//
//     private:
//         creel::wait_lock lock_{"gate"};
//         bool open_ = false; // guarded by lock_, as is the list
//         creel::wait_list waiting_{lock_};
//     };
//
// How nothing is lost:
//  * All state of a primitive and its lists are guarded by one spinlock, held for some instructions
//    and never over a switch. Whoever takes a waiter off a list thereby decides that it is woken,
//    and writes what it is handed (a field of a type derived from list_waiter) under the same lock.
//  * A cancel or a timeout, on the waiter's own thread, looks under that lock whether the waiter is
//    still linked. If so it unlinks it: withdrawn, and whatever comes goes to the next. If not, it
//    has been handed something, and its wake is on the way: pending; the wait then succeeds.
//  * The lock is free before anyone is woken. After its unlock and its wakes the waker touches
//    neither the primitive nor the waiters, so a woken one may destroy both.
//  * That holds also if another waiter was taken with it in the instant in which a cancel came for
//    that one: whoever takes a waiter of another thread waits until that thread has let go of the
//    list, if it was just looking for its lock (lock_list). So a list need not outlive the return
//    of the waits on it: only their waiters must be off it.
#pragma once

#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <string>

namespace creel {

class cancel_scope;
class wait_list;
class wait_node;
class list_waiter;

// What something is and where it was made.
struct wait_label {
    const char* what; // a string literal: "queue"
    std::source_location made_at;

    // "queue made at server.cpp:12". Cost: allocates.
    [[nodiscard]] std::string text() const;
};

// The spinlock of one primitive. It knows what the primitive is and where it was made, for the dump
// and for messages. An exchange and a plain store: 2.15 ns, where two CASes take 4.7.
// Threads: any. No function that may switch is called while it is held.
class wait_lock {
public:
    // `what` is a string literal: "queue".
    explicit wait_lock(const char* what,
                       std::source_location made_at = std::source_location::current()) noexcept
        : label_{what, made_at} {}
    wait_lock(const wait_lock&) = delete;
    wait_lock& operator=(const wait_lock&) = delete;

    void lock() noexcept {
        if (locked_.exchange(true, std::memory_order_acquire)) [[unlikely]]
            lock_slowly();
    }
    [[nodiscard]] bool try_lock() noexcept {
        return !locked_.load(std::memory_order_relaxed) &&
               !locked_.exchange(true, std::memory_order_acquire);
    }
    void unlock() noexcept { locked_.store(false, std::memory_order_release); }

    [[nodiscard]] const wait_label& label() const noexcept { return label_; }

    // "queue made at server.cpp:12". Cost: allocates.
    [[nodiscard]] std::string name() const { return label_.text(); }

    // For CREEL_ASSERT: "queue made at server.cpp:12: " and the text. Cost: allocates; without
    // memory it ends the process itself, as the assertion that has failed would.
    [[nodiscard]] std::string says(const char* text) const noexcept;

private:
    void lock_slowly() noexcept;

    std::atomic<bool> locked_{false};
    wait_label label_;
};

// Shared by the nodes of one who waits on several lists at once, of which exactly one may wake it
// (select). A waker claims before it hands over; once claimed, every other list passes its node by.
class wait_claim {
public:
    wait_claim() = default;
    wait_claim(const wait_claim&) = delete;
    wait_claim& operator=(const wait_claim&) = delete;

    // The first to call it wins. `by` tells winner() which node it was; for a withdrawal, null.
    // Threads: any. Cost: a CAS.
    [[nodiscard]] bool try_claim(wait_node* by) noexcept {
        state expected = state::open;
        if (!state_.compare_exchange_strong(expected, state::claimed))
            return false;
        winner_ = by;
        return true;
    }
    // Threads: the waiter's, after it was woken.
    [[nodiscard]] wait_node* winner() const noexcept { return winner_; }

private:
    enum class state : unsigned char { open, claimed };
    std::atomic<state> state_{state::open};
    wait_node* winner_ = nullptr; // written by the one who claims; its wake publishes it
};

// One place in one list. list_waiter is the usual one; one who waits on several lists has a node
// for each, all with its waiter and its claim.
class wait_node {
public:
    explicit wait_node(waiter& who, wait_claim* claim = nullptr) noexcept
        : who_(&who), claim_(claim) {}
    wait_node(const wait_node&) = delete;
    wait_node& operator=(const wait_node&) = delete;

    [[nodiscard]] waiter& who() const noexcept { return *who_; }

    // The list it is in, null if in none. With that list's lock held.
    [[nodiscard]] wait_list* list() const noexcept {
        return list_of(list_.load(std::memory_order_acquire));
    }

    // For a withdrawal: locks the list it is in, whichever that is by now, and returns it; null if
    // it is in none any more. Threads: the waiter's. Cost: two CASes.
    [[nodiscard]] wait_list* lock_list() noexcept;

    // For waiter_kind::describe: appends the name of what it waits for. Threads: the waiter's.
    void describe_list(std::string& text) const;

    // The one behind it in its list, null for the last. Guarded by the list's lock.
    [[nodiscard]] wait_node* next() const noexcept { return next_; }

private:
    friend class wait_list;
    friend class wake_batch;

    // One who has taken the node off a list while its waiter was looking at that list.
    struct departure {
        wait_list* to;
        std::atomic<bool> seen{false};
    };
    // The address of the list it is in. With `held`: the waiter is looking at that list. With
    // `left`: of a departure, which waits for the waiter to look away.
    using place = std::uintptr_t;
    static constexpr place held = 1;
    static constexpr place left = 2;
    [[nodiscard]] static place place_in(const wait_list* list) noexcept {
        return reinterpret_cast<place>(list);
    }
    [[nodiscard]] static wait_list* list_of(place p) noexcept {
        return (p & left) != 0 ? reinterpret_cast<departure*>(p & ~left)->to
                               : reinterpret_cast<wait_list*>(p & ~held);
    }

    // Its waiter is one of this thread's, so it looks at nothing now, and waits at this list only.
    [[nodiscard]] bool is_simple() const noexcept { return who_->is_here() && claim_ == nullptr; }
    void leave_here() noexcept { list_.store(0, std::memory_order_release); }

    // It is in `to` from now on, null: in none. With the lock of the list it was in held. Does not
    // touch the node after that, which may be gone if nobody will wake its waiter.
    void leave_for(wait_list* to) noexcept;

    // Between the two the list stays where it is, also if somebody takes the node off it; they hold
    // its lock until release_list. Null: it is in none. Threads: the waiter's.
    [[nodiscard]] wait_list* hold_list() const noexcept;
    void release_list(wait_list* held_one) const noexcept;

    wait_node* next_ = nullptr; // all guarded by the lock of the list it is in
    wait_node* previous_ = nullptr;
    mutable std::atomic<place> list_{0};
    waiter* who_;
    wait_claim* claim_;
};

// Waiters that were taken off their lists under the lock, and are woken when this goes out of
// scope. Declare it before the lock's guard, so that the lock is free by then.
class wake_batch {
public:
    wake_batch() = default;
    wake_batch(const wake_batch&) = delete;
    wake_batch& operator=(const wake_batch&) = delete;
    ~wake_batch() {
        if (first_ == nullptr)
            return;
        if (first_->next_ == nullptr) [[likely]]
            wake(first_->who());
        else
            wake_all();
    }

    // A node that wait_list::take() or take_front() has just given.
    void add(wait_node& taken) noexcept {
        taken.next_ = nullptr;
        *last_ = &taken;
        last_ = &taken.next_;
    }
    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }

    // In the order they were added.
    void wake_all() noexcept;

private:
    wait_node* first_ = nullptr;
    wait_node** last_ = &first_;
};

// First in, first out. Threads: any; everything but construction and destruction with the lock
// held.
class wait_list {
public:
    explicit wait_list(wait_lock& guard) noexcept : guard_(&guard) {}
    wait_list(const wait_list&) = delete;
    wait_list& operator=(const wait_list&) = delete;

    // To destroy a primitive on which somebody waits is a bug, and is caught.
    ~wait_list() {
        if (first_ != nullptr) [[unlikely]]
            destroyed_while_waited_on();
    }

    [[nodiscard]] wait_lock& guard() const noexcept { return *guard_; }
    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    // Null when empty. To look on: wait_node::next().
    [[nodiscard]] wait_node* front() const noexcept { return first_; }

    // Publishes a waiter. Between this and its wait() nothing may switch but the unlock.
    void push_back(wait_node& added) noexcept {
        link(added);
        added.list_.store(wait_node::place_in(this), std::memory_order_release);
    }

    // Takes a waiter off the list, wherever it stands: the caller must wake it, once, after the
    // unlock, by wake(node.who()) or a wake_batch. False if it was claimed through another list; it
    // is off this one then too, and is not woken.
    [[nodiscard]] bool take(wait_node& taken) noexcept {
        unlink(taken);
        if (!taken.is_simple()) [[unlikely]]
            return take_unlinked(taken);
        taken.leave_here();
        return true;
    }

    // The same for the first that can be taken; null if there is none.
    [[nodiscard]] wait_node* take_front() noexcept {
        wait_node* const taken = first_;
        if (taken == nullptr)
            return nullptr;
        if (!taken->is_simple()) [[unlikely]]
            return take_front_slowly();
        unlink_front();
        taken->leave_here();
        return taken;
    }

    void take_all(wake_batch& woken) noexcept {
        while (wait_node* taken = take_front())
            woken.add(*taken);
    }

    // Unlinks without a wake: for whoever withdraws by itself. Threads: the waiter's.
    void erase(wait_node& linked) noexcept {
        unlink(linked);
        linked.list_.store(0, std::memory_order_release);
    }

    // Moves up to `most` waiters, first come first, behind those of `to`; none of them is woken,
    // and a cancel then finds them there. Both locks are held: std::scoped_lock hold{a, b}.
    std::size_t requeue(wait_list& to, std::size_t most) noexcept;

private:
    [[noreturn]] void destroyed_while_waited_on() const noexcept;

    // None of the three changes what list() reads.
    void link(wait_node& added) noexcept {
        added.next_ = nullptr;
        added.previous_ = last_;
        (last_ != nullptr ? last_->next_ : first_) = &added;
        last_ = &added;
        ++size_;
    }
    void unlink(wait_node& linked) noexcept {
        (linked.previous_ != nullptr ? linked.previous_->next_ : first_) = linked.next_;
        (linked.next_ != nullptr ? linked.next_->previous_ : last_) = linked.previous_;
        --size_;
    }
    void unlink_front() noexcept {
        first_ = first_->next_;
        (first_ != nullptr ? first_->previous_ : last_) = nullptr;
        --size_;
    }
    [[nodiscard]] static bool take_unlinked(wait_node& node) noexcept;
    [[nodiscard]] wait_node* take_front_slowly() noexcept;

    wait_lock* guard_;
    wait_node* first_ = nullptr;
    wait_node* last_ = nullptr;
    std::size_t size_ = 0;
};

// One static table per kind of wait on a list.
struct wait_kind : waiter_kind {
    // Called when a waiter has withdrawn and is off its list, with the lock still held: for those
    // behind it, who may be able to go now (a semaphore's large request has gone). May take others
    // into `woken`. Null: nothing to do.
    using left_function = void (*)(list_waiter& who, wait_list& from, wake_batch& woken) noexcept;

    constexpr explicit wait_kind(bool is_cancellable = true,
                                 left_function when_left = nullptr) noexcept;

    left_function left;
};

// A waiter that is its own node: what one blocking call waits with. Derive from it to be handed
// something, and write that under the lock before the wake.
class list_waiter : public waiter, public wait_node {
public:
    explicit list_waiter(const wait_kind& kind) noexcept
        : waiter(kind), wait_node(static_cast<waiter&>(*this), nullptr) {}

    // Parks until woken. What was handed over is then in this object.
    // Parks: yes. Cancel: if the kind says so; the waiter is off the list then.
    // Threads: any. Throws: cancelled. Cost: one switch, no allocation.
    void wait() {
        if (park(*this) == wake_reason::cancelled) [[unlikely]]
            throw_cancelled();
    }

    // The same with a timer of its own: false if that was first. Throws: std::bad_alloc, and the
    // waiter is off the list then; see park_until.
    [[nodiscard]] bool wait_until(saturating_time_point deadline, saturating_duration span = {}) {
        const wake_reason reason = park_until(*this, deadline, span);
        if (reason == wake_reason::cancelled) [[unlikely]]
            throw_cancelled();
        return reason == wake_reason::signalled;
    }

private:
    friend struct wait_kind;
    static withdrawal withdraw(waiter& w, wake_reason why) noexcept;
    static void describe(const waiter& w, std::string& text);
};

constexpr wait_kind::wait_kind(bool is_cancellable, left_function when_left) noexcept
    : waiter_kind{&list_waiter::withdraw, &list_waiter::describe, is_cancellable},
      left(when_left) {}

// The kind for waits on which nobody else depends.
inline constexpr wait_kind plain_wait{};

namespace detail {

// The innermost scope that the caller is in. Threads: any.
[[nodiscard]] const cancel_scope* this_scope() noexcept;

// For debug mode, before a wait for what only `by` can end. If that is a fiber above the caller,
// which cannot go on before the caller has ended, says so on stderr, and how to do better: because
// it waits for its children now, or because it has opened the nursery between the two since it
// began, in the scope `within`, what the caller waits for. Threads: any. Cost: but for debug mode,
// two loads.
void name_wait_for_ancestor(const wait_label& what, party_number by,
                            std::optional<const cancel_scope*> within, const char* remedy) noexcept;

} // namespace detail

} // namespace creel
