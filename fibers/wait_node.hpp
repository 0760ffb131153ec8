// One place in one list of waiters: <creel/fibers/wait_list.hpp> shows how it is used.
#pragma once

#include <creel/fibers/wait_lock.hpp>
#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <cstdint>
#include <string>

namespace creel {

class wait_list;
class wait_node;

// Shared by the nodes of a waiter that waits on several lists at once, of which exactly one may
// wake it (select). A waker claims before it hands over; after that every other list passes over
// the waiter's node.
class wait_claim {
public:
    wait_claim() = default;
    wait_claim(const wait_claim&) = delete;
    wait_claim& operator=(const wait_claim&) = delete;

    // The first call wins. `by` tells winner() which node it was; for a withdrawal, null.
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
    wait_node* winner_ = nullptr; // written by the thread that claims; its wake publishes it
};

// list_waiter is the usual node; a waiter that waits on several lists has a node for each, all with
// its claim.
//
// A withdrawal runs on the waiter's thread, and must find the lock of a list that another thread
// may destroy at any time. So the node keeps its place, one word. It is the address of the lock of
// its list, with two bits:
//
//   0             nowhere: the node is in no list
//   lock          linked in a list of that lock
//   lock|pinned   the same, and the waiter's thread is on its way to the lock, or reads its label
//   lock|pinned|taken   another thread has taken the node off meanwhile, and the lock has counted
//                 that withdrawal as late, so that it is not destroyed before it has come
//
//   0 --------------- 1 push_back(), push_front() -------> lock               lock held
//   lock ------------ 2 leave_here(), claim_unlinked() --> 0                  taker's, lock held
//   lock ------------ 3 pin() ---------------------------> lock|pinned        waiter's thread
//   lock|pinned ----- 4 unpin() -------------------------> lock               waiter's thread
//   lock|pinned ----- 5 leave_list(): withdrawn ---------> 0                  waiter's, lock held
//   lock|pinned ----- 6 claim_unlinked() ----------------> lock|pinned|taken  taker's, lock held
//   l.|p.|taken ----- 7 leave_list(), unpin() -----------> 0                  waiter's, lock held
//
// A taker on the waiter's own thread need not look at the bits (leave_here): that thread has pinned
// nothing then.
class wait_node {
public:
    explicit wait_node(waiter& who, wait_claim* claim = nullptr) noexcept
        : who_(&who), claim_(claim) {}
    wait_node(const wait_node&) = delete;
    wait_node& operator=(const wait_node&) = delete;

    [[nodiscard]] waiter& who() const noexcept { return *who_; }

    // For a withdrawal: takes the node off its list, whichever that is by now, and returns the
    // list, locked; null if the node is in no list any more, because another party has taken it.
    // Threads: the waiter's. Cost: a CAS and the lock.
    [[nodiscard]] wait_list* leave_list() noexcept;

    // For waiter_kind::describe: appends the name of what it waits for. Threads: the waiter's.
    void describe_list(std::string& text) const;

    // For waiter_kind::holder and add_details: calls look(list) with the lock of its list held; not
    // at all if the node is in no list any more. `look` copies what it wants: with the lock held it
    // neither allocates nor throws. Threads: the waiter's.
    template <typename Look>
    void look_at_list(Look look) const noexcept {
        wait_lock* const at = pin();
        if (at == nullptr)
            return;
        at->lock();
        if ((place_.load(std::memory_order_relaxed) & taken) == 0)
            look(*list_);
        at->unlock();
        unpin(*at);
    }

    // Appends ", 2nd of 5 in line", if it is not alone; for add_details. Threads: the waiter's.
    void describe_place(std::string& text) const;

    // The node behind this one in its list; null for the last. Guarded by the list's lock.
    [[nodiscard]] wait_node* next() const noexcept { return next_; }

private:
    friend class wait_list;

    using place = std::uintptr_t; // see above
    static constexpr place nowhere = 0;
    static constexpr place pinned = 1;
    static constexpr place taken = 2;
    [[nodiscard]] static place place_at(const wait_lock& lock) noexcept {
        return reinterpret_cast<place>(&lock);
    }

    // True if the waiter belongs to this thread, which therefore pins nothing now, and waits only
    // here.
    [[nodiscard]] bool waits_only_here() const noexcept {
        return who_->is_here() && claim_ == nullptr;
    }
    void enter_at(const wait_lock& lock) noexcept {
        place_.store(place_at(lock), std::memory_order_release);
    }
    void leave_here() noexcept { place_.store(nowhere, std::memory_order_release); }

    // With the lock held, and the node off its list. True if the waiter is the caller's to wake;
    // false if it was claimed through another list. If false, the caller must not touch the node:
    // a waiter that was claimed elsewhere may destroy its nodes.
    [[nodiscard]] bool claim_unlinked(wait_lock& lock) noexcept;

    // Until `unpin` the lock is not destroyed, even if the node is taken. Null: it is in no list.
    // Threads: the waiter's.
    [[nodiscard]] wait_lock* pin() const noexcept;
    void unpin(wait_lock& lock) const noexcept;

    wait_node* next_ = nullptr; // guarded by the lock of the list it is in, as the next two
    wait_node* previous_ = nullptr;
    wait_list* list_ = nullptr;
    mutable std::atomic<place> place_{nowhere};
    waiter* who_;
    wait_claim* claim_;
};

} // namespace creel
