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
//             creel::wake_batch to_wake; // declared first: wakes last, when the lock is free again
//             const std::lock_guard hold{lock_};
//             open_ = true;
//             waiting_.take_all(to_wake);
//         }
//
//     private:
//         creel::wait_lock lock_{"gate"};
//         bool open_ = false; // guarded by lock_, as is the list
//         creel::wait_list waiting_{lock_};
//     };
//
// How nothing is lost:
//  * All state of a primitive and its lists are guarded by one lock, held for some instructions and
//    never over a switch. Whoever takes a waiter off a list thereby decides that it is woken, and
//    writes what it is handed (a field of a type derived from list_waiter) under the same lock.
//  * A cancel or a timeout, on the waiter's own thread, looks under that lock whether the waiter is
//    still linked. If so it unlinks it: withdrawn, and whatever comes goes to the next. If not, it
//    has been handed something, and its wake is on the way: pending; the wait then succeeds.
//  * The lock is free before anyone is woken. After its unlock and its wakes the waker touches
//    neither the primitive nor the waiters, so a woken one may destroy both.
//  * That holds also if another waiter was taken with it in the instant in which a cancel came for
//    that one, whose thread is then on its way to the lock. It has pinned its node before it set
//    out; the lock counts such a node when it is taken, and its destructor waits until the thread
//    has come and gone. So no taker ever waits for a withdrawal, and a primitive need not outlive
//    the return of the waits on it: only their waiters must be off its lists.
#pragma once

#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <string>

namespace creel {

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

namespace detail {
// How many threads sleep until some wait_lock is free. On a line that is hardly ever written. Not
// in the lock: after its unlock a thread may not touch it.
struct alignas(64) lock_sleepers {
    std::atomic<std::uint32_t> count{0};
};
extern constinit lock_sleepers all_lock_sleepers;
} // namespace detail

// The lock of one primitive. It knows what the primitive is and where it was made, for the dump and
// for messages. A thread that finds it held spins for a moment and then sleeps until it is free, so
// that a holder the kernel has descheduled gets the processor, whatever the priorities.
// Cost: an exchange to lock, a store and a load to unlock: 2.2 ns together, where a futex lock of
// three states (Drepper, "Futexes are tricky", 2011) takes 4.7 for its two atomic operations.
// Threads: any. No function that may switch is called while it is held.
class wait_lock {
public:
    // `what` is a string literal: "queue".
    explicit wait_lock(const char* what,
                       std::source_location made_at = std::source_location::current()) noexcept
        : label_{what, made_at} {}
    wait_lock(const wait_lock&) = delete;
    wait_lock& operator=(const wait_lock&) = delete;

    // Waits for the withdrawals that are still on their way here (see above), which sleep at most
    // for the lock. In this order: a withdrawal counts itself off while it holds the lock.
    ~wait_lock() {
        if (late_.load(std::memory_order_acquire) != 0 ||
            held_.load(std::memory_order_acquire) != 0) [[unlikely]]
            await_withdrawals();
    }

    void lock() noexcept {
        if (held_.exchange(1, std::memory_order_acquire) != 0) [[unlikely]]
            lock_slowly();
    }
    [[nodiscard]] bool try_lock() noexcept {
        return held_.load(std::memory_order_relaxed) == 0 &&
               held_.exchange(1, std::memory_order_acquire) == 0;
    }
    // Touches nothing of this after the store, for then another may destroy it. The processor may
    // read the number of sleepers first; a thread that goes to sleep sees to that (lock_slowly).
    void unlock() noexcept {
        held_.store(0, std::memory_order_release);
        std::atomic_signal_fence(std::memory_order_seq_cst); // the compiler keeps the order
        if (detail::all_lock_sleepers.count.load(std::memory_order_relaxed) != 0) [[unlikely]]
            wake_sleeper(*this);
    }

    [[nodiscard]] const wait_label& label() const noexcept { return label_; }

    // "queue made at server.cpp:12". Cost: allocates.
    [[nodiscard]] std::string name() const { return label_.text(); }

    // For CREEL_ASSERT: "queue made at server.cpp:12: " and the text. Cost: allocates; without
    // memory it ends the process itself, as the assertion that has failed would.
    [[nodiscard]] std::string says(const char* text) const noexcept;

private:
    friend class wait_node;

    void lock_slowly() noexcept;
    static void wake_sleeper(const wait_lock& unlocked) noexcept; // it may be gone
    void await_withdrawals() noexcept;
    void withdrawal_is_late() noexcept; // both with the lock held
    void late_withdrawal_came() noexcept;

    std::atomic<std::uint32_t> held_{0};
    std::atomic<std::uint32_t> late_{0}; // withdrawals that found their waiter taken, or will
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

    // For a withdrawal: takes the node off its list, whichever that is by now, and returns the
    // list, locked; null if it is in none any more, because somebody has taken it. Threads: the
    // waiter's. Cost: a CAS and the lock.
    [[nodiscard]] wait_list* leave_list() noexcept;

    // For waiter_kind::describe: appends the name of what it waits for. Threads: the waiter's.
    void describe_list(std::string& text) const;

    // The one behind it in its list, null for the last. Guarded by the list's lock.
    [[nodiscard]] wait_node* next() const noexcept { return next_; }

private:
    friend class wait_list;

    // The address of the lock of the list it is in; 0: it is in none. `pinned`: the waiter's thread
    // is on its way to that lock, or reads its label. `taken`: somebody has taken the node off its
    // list meanwhile, and the lock has counted that.
    using place = std::uintptr_t;
    static constexpr place pinned = 1;
    static constexpr place taken = 2;
    [[nodiscard]] static place place_at(const wait_lock& lock) noexcept {
        return reinterpret_cast<place>(&lock);
    }

    // Its waiter is one of this thread's, so it has pinned nothing now, and waits at this list
    // only.
    [[nodiscard]] bool is_simple() const noexcept { return who_->is_here() && claim_ == nullptr; }
    void leave_here() noexcept { place_.store(0, std::memory_order_release); }

    // With the lock held, and the node off its list: says so to its waiter. Touches the node no
    // more after that: one that was claimed elsewhere may be gone.
    void say_taken(wait_lock& lock) noexcept;

    // Until `unpin` the lock stays, whoever takes the node. Null: it is in no list. Threads: the
    // waiter's.
    [[nodiscard]] wait_lock* pin() const noexcept;
    void unpin(wait_lock& lock) const noexcept;

    wait_node* next_ = nullptr; // guarded by the lock of the list it is in, as the next two
    wait_node* previous_ = nullptr;
    wait_list* list_ = nullptr;
    mutable std::atomic<place> place_{0};
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
        if (after(*first_) == nullptr) [[likely]]
            wake(*first_);
        else
            wake_all();
    }

    // A node that wait_list::take() or take_front() has just given.
    void add(wait_node& taken) noexcept {
        waiter& who = taken.who();
        who.next_in_inbox = nullptr;
        if (last_ != nullptr)
            last_->next_in_inbox = &who;
        else
            first_ = &who;
        last_ = &who;
    }
    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }

    // In the order they were added.
    void wake_all() noexcept;

private:
    // The waiters' link to the inbox is free until they are woken.
    [[nodiscard]] static waiter* after(const waiter& who) noexcept {
        return static_cast<waiter*>(who.next_in_inbox);
    }

    waiter* first_ = nullptr;
    waiter* last_ = nullptr;
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
        added.place_.store(wait_node::place_at(*guard_), std::memory_order_release);
    }

    // The same at the head of the list: for one whose turn had come, and who found that another had
    // been quicker.
    void push_front(wait_node& added) noexcept {
        added.list_ = this;
        added.next_ = first_;
        added.previous_ = nullptr;
        (first_ != nullptr ? first_->previous_ : last_) = &added;
        first_ = &added;
        ++size_;
        added.place_.store(wait_node::place_at(*guard_), std::memory_order_release);
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

    void take_all(wake_batch& to_wake) noexcept {
        while (wait_node* taken = take_front())
            to_wake.add(*taken);
    }

    // Moves up to `most` waiters, first come first, behind those of `to`, a list with the same
    // lock; none of them is woken, and a cancel then finds them there.
    std::size_t requeue(wait_list& to, std::size_t most) noexcept;

private:
    friend class wait_node;

    [[noreturn]] void destroyed_while_waited_on() const noexcept;

    // None of the three changes the node's place.
    void link(wait_node& added) noexcept {
        added.list_ = this;
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
    [[nodiscard]] bool take_unlinked(wait_node& node) noexcept;
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
    // into `to_wake`. Null: nothing to do.
    using left_function = void (*)(list_waiter& who, wait_list& from, wake_batch& to_wake) noexcept;

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

// Tells one cancel scope from another; it is only compared.
using scope_id = const void*;

// Of the innermost scope that the caller is in; null for none. Threads: any.
[[nodiscard]] scope_id this_scope() noexcept;

// Now, or when the caller's thread last polled, which is free: some microseconds earlier, or as
// much as a fiber has computed since. Threads: any; a plain thread's is fresh.
[[nodiscard]] time_point recent_time() noexcept;

// For debug mode, before a wait for what only `by` can end. If that is a fiber above the caller,
// which cannot go on before the caller has ended, says so on stderr, and how to do better: because
// it waits for its children now, or because it has opened the nursery between the two since it
// began, in the scope `within`, what the caller waits for. So, too, if the caller is a blocking
// call of `by`. Threads: any. Cost: but for debug mode, two loads.
void name_wait_for_ancestor(const wait_label& what, party_number by, std::optional<scope_id> within,
                            const char* remedy) noexcept;

} // namespace creel
