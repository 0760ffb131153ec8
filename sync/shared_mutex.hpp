// Many readers or one writer. Works with std::lock_guard, unique_lock, scoped_lock and shared_lock.
//
//     sync::shared_mutex m;
//     { const std::shared_lock reading{m}; look_up(table); }
//     { const std::lock_guard writing{m}; table.insert(...); }
//
// Fair to both: a reader that comes while a writer waits queues up behind it, and readers that wait
// side by side enter together. When the first waiter in line is on another thread, it is told to
// try, and other callers may enter until its thread runs. If it cannot enter then, it comes first
// once it has waited for a millisecond. It costs more than a mutex: use it for long reads, not for
// short ones.
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>

namespace creel::sync {

struct shared_mutex_statistics {
    bool locked = false;         // by a writer
    std::size_t readers = 0;     // inside
    std::size_t waiting = 0;     // of both kinds, in line: without waiters told to try
    std::uint64_t contended = 0; // locks that had to wait, since it was made
};

class shared_mutex {
public:
    explicit shared_mutex(std::source_location made_at = std::source_location::current()) noexcept
        : lock_("shared_mutex", made_at) {}
    // Destroying it while a party holds it is a bug, and is caught.
    ~shared_mutex();
    shared_mutex(const shared_mutex&) = delete;
    shared_mutex& operator=(const shared_mutex&) = delete;

    // For a writer. A second lock by the same writer, of either kind, is a bug, and is caught.
    // Parks: until its turn comes. Cancel: no. Threads: any. Cost: the primitive's lock when it is
    // free.
    void lock();
    // Parks: as lock(). Cancel: yes, it is not held then. Threads: any. Throws: cancelled.
    void lock_cancellable();
    // Parks: never. Threads: any.
    [[nodiscard]] bool try_lock() noexcept;
    // For the writer that locked it; an unlock by another party is a bug, and is caught.
    // Parks: never. Threads: any. Cost: the primitive's lock, and a wake for each waiter that may
    // enter.
    void unlock() noexcept;

    // The same for readers. An unlock by a party that does not read is a bug, and is caught: at
    // once if there is one reader; if there are several, when the last has left, before a writer
    // enters. A reader that locks again while a writer waits waits for itself.
    void lock_shared();
    void lock_shared_cancellable();
    [[nodiscard]] bool try_lock_shared() noexcept;
    void unlock_shared() noexcept;

    // True if the caller writes. Threads: any.
    [[nodiscard]] bool owned() const noexcept;

    // Threads: any.
    [[nodiscard]] shared_mutex_statistics statistics() const noexcept;

private:
    struct entrant;
    [[nodiscard]] party_number only_holder() const noexcept; // 0: there are several, or none

    void enter(bool to_share, const wait_kind& kind);
    // With the lock held.
    [[nodiscard]] bool try_enter(bool to_share, party_number me) noexcept;
    [[nodiscard]] bool is_open(bool to_share) const noexcept; // without regard to waiters
    void let_in(bool to_share, party_number who) noexcept;
    void add_reader(party_number who) noexcept;
    [[nodiscard]] std::size_t& called(bool to_share) noexcept;
    void admit(wake_batch& to_wake) noexcept;

    mutable wait_lock lock_;
    party_number writer_ = 0; // guarded by lock_, as is all below
    std::size_t readers_ = 0;
    std::uint64_t readers_sum_ = 0; // of their fingerprints: 0 if there are none
    wait_list waiting_{lock_};
    std::size_t called_writers_ = 0; // waiters of other threads that are told to try
    std::size_t called_readers_ = 0; // the same; at one time either one writer or readers
    std::uint64_t contended_ = 0;
};

} // namespace creel::sync
