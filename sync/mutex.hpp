// Mutual exclusion for fibers and threads. Works with std::lock_guard, unique_lock and scoped_lock.
//
//     sync::mutex m;
//     const std::lock_guard hold{m};          // waits whatever is cancelled, as std::mutex does
//
//     m.lock_cancellable();                   // waits, or throws `cancelled` without the lock
//     const std::lock_guard hold{m, std::adopt_lock};
//
// Fair: among fibers of one thread an unlock hands the mutex to the one that has waited longest.
// One on another thread is told to try when its turn comes, and others may have the mutex until its
// thread runs; if it finds it locked then, it is handed over once it has waited for a millisecond.
// A fiber may wait, for anything, while it holds one. Between fibers of one thread that do not wait
// in between no mutex is needed.
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>

namespace creel::sync {

struct mutex_statistics {
    bool locked = false;
    std::size_t waiting = 0;     // in line: without one that was told to try, and has not yet
    std::uint64_t contended = 0; // locks that had to wait, since it was made
};

class mutex {
public:
    explicit mutex(std::source_location made_at = std::source_location::current()) noexcept
        : lock_("mutex", made_at) {}
    // To destroy a locked mutex is a bug, and is caught.
    ~mutex();
    mutex(const mutex&) = delete;
    mutex& operator=(const mutex&) = delete;

    // To lock it twice is a bug, and is caught.
    // Parks: until its turn comes. Cancel: no. Threads: any. Cost: a spinlock when it is free.
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

    // By the one who locked it; anybody else's unlock is a bug, and is caught. The next owner may
    // destroy the mutex.
    // Parks: never. Threads: any. Cost: a spinlock, and a wake if somebody waits.
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
    // Under another name in messages. A string literal.
    mutex(const char* what, std::source_location made_at) noexcept : lock_(what, made_at) {}

private:
    // All of them come with the lock held and let go of it.
    void wait_for_turn(party_number me);
    void wait_in_line(const wait_kind& kind, party_number me);
    void pass_on(party_number me) noexcept;

    mutable wait_lock lock_;
    party_number owner_ = 0; // guarded by lock_, as is all below; 0: free
    wait_list waiting_{lock_};
    std::uint64_t contended_ = 0;
    bool is_called_ = false; // one that waited, on another thread, is about to try
};

} // namespace creel::sync
