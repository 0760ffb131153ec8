// The waiters of a primitive, in order: the intrusive list that every primitive of sync/ stands on.
// Build your own primitive with it: a little state, one wait_lock, and a wait_list for each thing
// that can be waited for.
//
//     class gate {
//     public:
//         void pass() {
//             creel::check_cancel();
//             creel::list_waiter me{creel::plain_wait}; // on the stack of the call that waits
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
//  * All state of a primitive and its lists are guarded by one lock, which is held for some
//    instructions and never over a switch. A thread that takes a waiter off a list thereby decides
//    that the waiter is woken, and writes what it hands over (a field of a type derived from
//    list_waiter) under the same lock.
//  * A cancel or a timeout, on the waiter's own thread, checks under that lock whether the waiter
//    is still linked. If it is, it unlinks the waiter: withdrawn, and the next waiter gets what
//    comes. If it is not, the waiter was handed something, and its wake is on the way: pending; the
//    wait then succeeds.
//  * The lock is free before a waiter is woken. After its unlock and its wakes the waker touches
//    neither the primitive nor the waiters, so a woken waiter may destroy both.
//  * The last point also holds if a second waiter was taken together with the woken one at the
//    instant when a cancel came for that second waiter. The thread of the second waiter is then on
//    its way to the lock. It pinned its node before it set out (the table of places in
//    wait_node.hpp). The lock counts such a node when the node is taken, and the destructor of the
//    lock waits until that thread has come and left. So a taker never waits for a withdrawal, and a
//    primitive need not outlive the return of the waits on it: only their waiters must be off its
//    lists.
#pragma once

#include <creel/fibers/list_waiter.hpp>
#include <creel/fibers/wait_lock.hpp>
#include <creel/fibers/wait_node.hpp>
#include <creel/fibers/waiter.hpp>

#include <cstddef>

namespace creel {

// Waiters that were taken off their lists under the lock. They are woken when the batch goes out of
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

    // Adds a node that wait_list::take() or take_front() has just given to the caller.
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

    // Wakes the waiters in the order in which they were added.
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

    // To destroy a primitive that has waiters is a bug, and is caught.
    ~wait_list() {
        if (first_ != nullptr) [[unlikely]]
            destroyed_while_waited_on();
    }

    [[nodiscard]] wait_lock& guard() const noexcept { return *guard_; }
    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    // Null when empty. wait_node::next() goes on from there.
    [[nodiscard]] wait_node* front() const noexcept { return first_; }

    // Publishes a waiter. Between this call and the waiter's wait() only the unlock is allowed:
    // nothing may switch.
    void push_back(wait_node& added) noexcept {
        insert(added, last_, nullptr);
        added.enter_at(*guard_);
    }

    // The same at the head of the list: for a waiter that was told of its turn, and found that
    // another party had been quicker.
    void push_front(wait_node& added) noexcept {
        insert(added, nullptr, first_);
        added.enter_at(*guard_);
    }

    // Takes a waiter off the list, wherever it stands: the caller must wake it, once, after the
    // unlock, by wake(node.who()) or a wake_batch. False if the waiter was claimed through another
    // list; then it is off this list too, and must not be woken.
    [[nodiscard]] bool take(wait_node& taken) noexcept {
        unlink(taken);
        if (!taken.waits_only_here()) [[unlikely]]
            return taken.claim_unlinked(*guard_);
        taken.leave_here();
        return true;
    }

    // The same for the first waiter that can be taken; null if there is none.
    [[nodiscard]] wait_node* take_front() noexcept {
        wait_node* const taken = first_;
        if (taken == nullptr)
            return nullptr;
        if (!taken->waits_only_here()) [[unlikely]]
            return take_front_claimed();
        unlink_front();
        taken->leave_here();
        return taken;
    }

    void take_all(wake_batch& to_wake) noexcept {
        while (wait_node* taken = take_front())
            to_wake.add(*taken);
    }

    // Moves up to `most` waiters, in their order, behind the waiters of `to`, a list with the same
    // lock; none of them is woken, and a cancel then finds them there.
    std::size_t requeue(wait_list& to, std::size_t most) noexcept;

private:
    friend class wait_node;

    [[noreturn]] void destroyed_while_waited_on() const noexcept;

    // None of the three changes the node's place. Null: the new node is the first, or the last.
    void insert(wait_node& added, wait_node* previous, wait_node* next) noexcept {
        added.list_ = this;
        added.previous_ = previous;
        added.next_ = next;
        (previous != nullptr ? previous->next_ : first_) = &added;
        (next != nullptr ? next->previous_ : last_) = &added;
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
    // Takes nodes off the front until one is the caller's to wake.
    [[nodiscard]] wait_node* take_front_claimed() noexcept;

    wait_lock* guard_;
    wait_node* first_ = nullptr;
    wait_node* last_ = nullptr;
    std::size_t size_ = 0;
};

} // namespace creel
