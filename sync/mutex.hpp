// Mutual exclusion for fibers and threads. Works with std::lock_guard, unique_lock and scoped_lock.
//
//     sync::mutex m;
//     const std::lock_guard hold{m};          // waits even if cancelled, as std::mutex does
//
//     m.lock_cancellable();                   // waits, or throws `cancelled` without the lock
//     const std::lock_guard hold{m, std::adopt_lock};
//
// Fair: among fibers of one thread an unlock hands the mutex to the fiber that has waited longest.
// A fiber of another thread is told to try when its turn comes, and others may have the mutex until
// its thread runs. If it finds the mutex locked then, it is handed the mutex once it has waited for
// a millisecond. A fiber may wait, for anything, while it holds a mutex. Fibers of one thread that
// do not wait in between need no mutex.
//
// The states of a mutex, by owner_ and is_called_:
//
//   free            -- 1 lock(), try_lock() -----> locked
//   locked          -- 2 unlock(): empty line ---> free
//   locked          -- 3 pass_on(): handed over -> locked           the next owner is written
//   locked          -- 4 pass_on(): not so ------> free, called     a contender is about to try
//   free, called    -- 5 lock(), try_lock() -----> locked, called   another party was quicker
//   free, called    -- 6 the contender tries ----> locked
//   locked, called  -- 7 the contender tries ----> locked           and it is in line again
//   locked, called  -- 8 unlock(), pass_on() ----> free, called     not handed over
//   locked, called  -- 9 pass_on(): handed over -> locked, called   the next owner is written
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>

namespace creel::sync {

struct mutex_statistics {
    bool locked = false;
    std::size_t waiting = 0;     // in line; without a waiter that was told to try and has not yet
    std::uint64_t contended = 0; // locks that had to wait, since it was made
};

class mutex {
public:
    explicit mutex(std::source_location made_at = std::source_location::current()) noexcept
        : lock_("mutex", made_at) {}
    // Destroying a locked mutex is a bug, and is caught.
    ~mutex();
    mutex(const mutex&) = delete;
    mutex& operator=(const mutex&) = delete;

    // Locking it twice is a bug, and is caught.
    // Parks: until its turn comes. Cancel: no. Threads: any. Cost: an exchange and a store when it
    // is free. They are the wait_lock's, which spins and then sleeps if another thread holds it.
    void lock() {
        party_number me = this_party();
        lock_.lock();
        if (owner_ == 0) [[likely]] {
            owner_ = me;
            lock_.unlock();
            return;
        }
        wait_for_turn(me);
    }

    // Parks: as lock(). Cancel: yes, it is not held then. Threads: any. Throws: cancelled.
    void lock_cancellable();

    // Parks: never. Threads: any.
    [[nodiscard]] bool try_lock() noexcept {
        party_number me = this_party();
        lock_.lock();
        const bool is_free = owner_ == 0;
        if (is_free)
            owner_ = me;
        lock_.unlock();
        return is_free;
    }

    // For the party that locked it; the unlock of any other party is a bug, and is caught. The next
    // owner may destroy the mutex.
    // Parks: never. Threads: any. Cost: an exchange and a store, and a wake if a waiter is in line.
    void unlock() noexcept {
        party_number me = this_party();
        lock_.lock();
        if (owner_ == me && waiting_.empty()) [[likely]] {
            owner_ = 0;
            lock_.unlock();
            return;
        }
        pass_on(me);
    }

    // True if the caller holds it. Threads: any.
    [[nodiscard]] bool owned() const noexcept;

    // Threads: any.
    [[nodiscard]] mutex_statistics statistics() const noexcept;

protected:
    // With another name in messages: `what` is a string literal.
    mutex(const char* what, std::source_location made_at) noexcept : lock_(what, made_at) {}

private:
    struct locker;

    // All of these are called with the lock held, and release it.
    void wait_for_turn(party_number me);
    void wait_in_line(const wait_kind& kind, party_number me);
    void pass_on(party_number me) noexcept;

    mutable wait_lock lock_;
    party_number owner_ = 0; // guarded by lock_, as is all below; 0: free
    wait_list waiting_{lock_};
    std::uint64_t contended_ = 0;
    bool is_called_ = false; // a contender of another thread is about to try
};

} // namespace creel::sync
