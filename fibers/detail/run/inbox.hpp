// Where another thread's wake arrives: the inbox of one scheduler.
//
// Another thread posts a node, and the scheduler's thread delivers it at its next look. Boost
// leaves its own contexts elsewhere and only rings the bell here. The kernel is touched only while
// the scheduler sleeps. The states of the flag `sleeping_`:
//
//   awake    -- 1 announce_sleep() ---> sleeping    nothing is ready; only the owner makes it
//   sleeping -- 2 end_sleep() --------> awake       the owner is back from its wait
//
//   In `awake` a poster only pushes: the owner looks here before it sleeps. In `sleeping` the
//   poster that finds the inbox empty also kicks, which makes the current or else the next wait
//   return.
//
// No wake is lost. The owner stores the flag and then loads the list; a poster stores to the list
// and then loads the flag. All four are seq_cst, so at least one of the two sees the other's store:
//
//   owner                              poster
//   a  sleeping_ = true                c  push to newest_ (or bell_ = true)
//   b  is newest_ empty, bell_ off?    d  is sleeping_ true?
//      yes: wait                          yes: kick
//
//   order       the owner at b     the poster at d     outcome
//   a b c d     sees nothing       sees `sleeping`     it waits, and the kick ends the wait
//   a c b d     sees the node      sees `sleeping`     it does not wait; the kick is needless
//   a c d b     sees the node      sees `sleeping`     the same
//   c a b d     sees the node      sees `sleeping`     the same
//   c a d b     sees the node      sees `sleeping`     the same
//   c d a b     sees the node      sees `awake`        it does not wait, and there is no kick
//
// A poster that finds the inbox not empty need not look at the flag: the poster before it has
// looked, or the owner is about to take all nodes.
//
// A kick may come late, when the run has ended. So the mutex guards the pointer to the poller, and
// the inbox is as immortal as its scheduler.
#pragma once

#include <creel/fibers/poller.hpp>
#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <mutex>

namespace creel::detail {

class inbox {
public:
    // Hands a node to the owner. The node must be in no inbox. Threads: any.
    void post(inbox_node& node) noexcept;
    // Called when Boost has a context from another thread for the owner. Threads: any.
    void ring_bell() noexcept;

    // From now on a kick wakes this poller; null: no poller. Threads: own.
    void kicks(poller* outside) noexcept;

    // Calls `deliver` for all that was posted until now, oldest first. Threads: own.
    void deliver_all() noexcept;
    // True if the bell was rung since the last call. Threads: own.
    [[nodiscard]] bool answer_bell() noexcept { return bell_.exchange(false); }

    // A look in passing, relaxed: what it misses is found at the next look, or by announce_sleep().
    // Threads: own.
    [[nodiscard]] bool has_nodes() const noexcept {
        return newest_.load(std::memory_order_relaxed) != nullptr;
    }
    [[nodiscard]] bool bell_was_rung() const noexcept {
        return bell_.load(std::memory_order_relaxed);
    }

    // Before the owner waits. False if something is here: then it must not wait. In both cases
    // end_sleep() follows. Threads: own.
    [[nodiscard]] bool announce_sleep() noexcept {
        sleeping_.store(true);
        return newest_.load() == nullptr && !bell_.load();
    }
    // Relaxed: a poster that still sees the flag makes a needless kick, which is harmless.
    void end_sleep() noexcept { sleeping_.store(false, std::memory_order_relaxed); }
    // Between the two. Relaxed: for a thread that samples. Threads: any.
    [[nodiscard]] bool owner_sleeps() const noexcept {
        return sleeping_.load(std::memory_order_relaxed);
    }

    // In a forked child, on its only thread. If the inbox had a poller, it is empty then, and its
    // first post kicks `instead` (null: nothing).
    void leave_to_parent(poller* instead) noexcept;

private:
    void kick() noexcept;

    std::atomic<inbox_node*> newest_{nullptr}; // a Treiber stack: posters push, the owner takes all
    std::atomic<bool> bell_{false};
    std::atomic<bool> sleeping_{false};
    std::mutex kick_mutex_; // guards outside_ against the owner's leaving
    poller* outside_ = nullptr;
};

} // namespace creel::detail
