// So many at a time: connections to a backend, requests in flight, memory in use.
//
//     sync::semaphore slots{10};
//     n.spawn([&] { auto permit = slots.hold(); fetch(url); });      // given back at the brace
//
//     sync::semaphore memory{64 * 1024};                             // weighted
//     auto permit = memory.hold(bytes);
//
//     sync::semaphore arrived{0, sync::semaphore::max()};            // signals: none yet
//     arrived.release();                                             // one came
//     arrived.acquire();                                             // waits for one, and takes it
//
// Fair: a request for many permits is not passed by those behind it that ask for few. Where the
// first in line is on another thread, it is told to try, and others may have the permits until its
// thread runs; if they are gone then, it comes first once it has waited for a millisecond.
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <source_location>
#include <utility>

namespace creel::sync {

class semaphore;

// Permits held; they go back when this ends. Moves, does not copy. Must not outlive its semaphore.
class permit {
public:
    permit(permit&& other) noexcept
        : from_(std::exchange(other.from_, nullptr)), count_(other.count_) {}
    permit& operator=(permit&& other) noexcept {
        permit incoming{std::move(other)}; // first: it may be this one
        std::swap(from_, incoming.from_);
        std::swap(count_, incoming.count_);
        return *this; // the old ones go back
    }
    ~permit() { release(); }

    // Gives them back now; a second time does nothing. Never parks.
    void release() noexcept;

    // How many; 0 once they were given back.
    [[nodiscard]] std::ptrdiff_t count() const noexcept { return from_ != nullptr ? count_ : 0; }

private:
    friend class semaphore;
    permit(semaphore& from, std::ptrdiff_t count) noexcept : from_(&from), count_(count) {}

    semaphore* from_;
    std::ptrdiff_t count_;
};

struct semaphore_statistics {
    std::ptrdiff_t permits = 0;   // in all: the most that can be available
    std::ptrdiff_t available = 0; // negative after a resize() to less than is held
    std::size_t waiting = 0;      // in line: without those told to try, which have not yet
    std::uint64_t waited = 0;     // acquisitions that had to wait, since it was made
};

class semaphore {
public:
    // So many in all, and all of them are free. A negative number is a bug, and is caught.
    explicit semaphore(std::ptrdiff_t permits,
                       std::source_location made_at = std::source_location::current());
    // `initial` are free at first, and there may be up to `limit`: the rest counts as acquired, so
    // that anyone may release() it. To signal by release(), as with std::counting_semaphore{0} and
    // asyncio's Semaphore(0); with max() there is no limit that a program reaches. An initial
    // number that is negative or above the limit is a bug, and is caught.
    semaphore(std::ptrdiff_t initial, std::ptrdiff_t limit,
              std::source_location made_at = std::source_location::current());
    // To destroy it while somebody waits is a bug, and is caught.
    ~semaphore();
    semaphore(const semaphore&) = delete;
    semaphore& operator=(const semaphore&) = delete;

    // The greatest limit.
    [[nodiscard]] static constexpr std::ptrdiff_t max() noexcept {
        return std::numeric_limits<std::ptrdiff_t>::max();
    }

    // Takes `count` permits; hold() gives them back by itself. To ask for more than there are in
    // all waits for a resize(). Parks: until so many are free and it is its turn. Cancel:
    // yes, no permit is held then. Threads: any. Throws: cancelled. Cost: a spinlock when they are
    // free.
    void acquire(std::ptrdiff_t count = 1);
    [[nodiscard]] permit hold(std::ptrdiff_t count = 1) {
        acquire(count);
        return {*this, count};
    }

    // False, or empty, if they are not free or others come first. Never parks. Threads: any.
    [[nodiscard]] bool try_acquire(std::ptrdiff_t count = 1) noexcept;
    [[nodiscard]] std::optional<permit> try_hold(std::ptrdiff_t count = 1) noexcept {
        return try_acquire(count) ? std::optional{permit{*this, count}} : std::nullopt;
    }

    // Gives back what was acquired, by whomever; more than that, so that there would be more than
    // the limit, is a bug, and is caught. Whoever it lets through may destroy the semaphore.
    // Parks: never. Threads: any. Cost: a spinlock, and a wake for each who may go.
    void release(std::ptrdiff_t count = 1) noexcept;

    // From now on so many in all: the limit, and with it what is available, changes by the
    // difference. Those held stay held: with fewer, releases are kept back until the number is
    // right. Never parks. Threads: any.
    void resize(std::ptrdiff_t permits) noexcept;

    // Threads: any.
    [[nodiscard]] semaphore_statistics statistics() const noexcept;

protected:
    // Under another name in messages. A string literal.
    semaphore(const char* what, std::ptrdiff_t initial, std::ptrdiff_t limit,
              std::source_location made_at);

private:
    struct request;
    static void left(list_waiter& who, wait_list& from, wake_batch& to_wake) noexcept;
    static const wait_kind request_kind;

    void wait_for_turn(std::ptrdiff_t count);      // with the lock held, which it lets go
    void serve(wake_batch& to_wake) noexcept;      // with the lock held
    [[nodiscard]] bool may_barge() const noexcept; // with the lock held, while somebody waits
    void give_back(std::ptrdiff_t count) noexcept; // with the lock held, which it lets go

    // permits_ - available_ are held: 0 to max() of them, so that no sum here overflows.
    mutable wait_lock lock_;
    std::ptrdiff_t available_; // guarded by lock_, as is all below
    wait_list waiting_{lock_};
    std::ptrdiff_t called_ = 0; // asked for by those who waited, on other threads, and now try
    std::ptrdiff_t permits_;
    std::uint64_t waited_ = 0;
};

inline void permit::release() noexcept {
    if (semaphore* from = std::exchange(from_, nullptr))
        from->release(count_);
}

} // namespace creel::sync
