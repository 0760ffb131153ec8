// At most so many at a time: connections to a backend, requests in flight, memory in use.
//
//     sync::semaphore slots{10};
//     n.spawn([&] { auto permit = slots.hold(); fetch(url); });      // goes back at the brace
//
//     sync::semaphore memory{64 * 1024};                             // weighted
//     auto permit = memory.hold(bytes);
//
//     sync::semaphore arrived{0, sync::semaphore::max()};            // signals: none yet
//     arrived.release();                                             // one signal
//     arrived.acquire();                                             // waits for one, and takes it
//
// Fair: a request for many permits is not passed by requests behind it that ask for few. When the
// first waiter in line is on another thread, it is told to try, and other callers may take the
// permits until its thread runs. If they are gone then, it comes first once it has waited for a
// millisecond.
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

// Permits that are held; they go back when this object is destroyed. It can be moved, not copied.
// It must not outlive its semaphore.
class permit {
public:
    permit(permit&& other) noexcept
        : from_(std::exchange(other.from_, nullptr)), count_(other.count_) {}
    permit& operator=(permit&& other) noexcept {
        permit incoming{std::move(other)}; // first, because `other` may be this permit
        std::swap(from_, incoming.from_);
        std::swap(count_, incoming.count_);
        return *this; // the old permits go back
    }
    ~permit() { release(); }

    // Gives them back now; a second call does nothing. Parks: never.
    void release() noexcept;

    // The number of permits held; 0 once they were given back.
    [[nodiscard]] std::ptrdiff_t count() const noexcept { return from_ != nullptr ? count_ : 0; }

private:
    friend class semaphore;
    permit(semaphore& from, std::ptrdiff_t count) noexcept : from_(&from), count_(count) {}

    semaphore* from_;
    std::ptrdiff_t count_;
};

struct semaphore_statistics {
    std::ptrdiff_t permits = 0;   // in all: the most that can be available
    std::ptrdiff_t available = 0; // negative after a resize() to fewer than are held
    std::size_t waiting = 0;      // in line: without waiters that were told to try and have not yet
    std::uint64_t waited = 0;     // acquisitions that had to wait, since it was made
};

class semaphore {
public:
    // `permits` in all, and all of them are free. A negative number is a bug, and is caught.
    explicit semaphore(std::ptrdiff_t permits,
                       std::source_location made_at = std::source_location::current());
    // `initial` permits are free at first, and up to `limit` may be: the rest counts as acquired,
    // so that any party may release() it. This is for signals by release(), as with
    // std::counting_semaphore{0} and asyncio's Semaphore(0); no program reaches the limit max(). An
    // initial number that is negative or above the limit is a bug, and is caught.
    semaphore(std::ptrdiff_t initial, std::ptrdiff_t limit,
              std::source_location made_at = std::source_location::current());
    // Destroying it while a caller waits is a bug, and is caught.
    ~semaphore();
    semaphore(const semaphore&) = delete;
    semaphore& operator=(const semaphore&) = delete;

    // The greatest limit.
    [[nodiscard]] static constexpr std::ptrdiff_t max() noexcept {
        return std::numeric_limits<std::ptrdiff_t>::max();
    }

    // Takes `count` permits; those of hold() go back by themselves. A caller that asks for more
    // than there are in all waits for a resize().
    // Parks: until that many are free and the caller's turn comes. Cancel: yes, no permit is held
    // then. Threads: any. Throws: cancelled. Cost: the primitive's lock when they are free.
    void acquire(std::ptrdiff_t count = 1);
    [[nodiscard]] permit hold(std::ptrdiff_t count = 1) {
        acquire(count);
        return {*this, count};
    }

    // False, or empty, if they are not free or other callers come first.
    // Parks: never. Threads: any.
    [[nodiscard]] bool try_acquire(std::ptrdiff_t count = 1) noexcept;
    [[nodiscard]] std::optional<permit> try_hold(std::ptrdiff_t count = 1) noexcept {
        return try_acquire(count) ? std::optional{permit{*this, count}} : std::nullopt;
    }

    // Gives permits back; any party may have acquired them. Releasing more than were acquired, so
    // that there are more than the limit, is a bug, and is caught. A waiter that goes on may
    // destroy the semaphore.
    // Parks: never. Threads: any. Cost: the primitive's lock, and a wake for each waiter that may
    // go.
    void release(std::ptrdiff_t count = 1) noexcept;

    // From now on `permits` in all: the limit changes, and the available number changes by the same
    // difference. Permits that are held stay held: after a change to fewer, released permits become
    // available only when fewer than `permits` are held.
    // Parks: never. Threads: any.
    void resize(std::ptrdiff_t permits) noexcept;

    // Threads: any.
    [[nodiscard]] semaphore_statistics statistics() const noexcept;

protected:
    // With another name in messages: `what` is a string literal.
    semaphore(const char* what, std::ptrdiff_t initial, std::ptrdiff_t limit,
              std::source_location made_at);

private:
    struct request;
    static void left(list_waiter& who, wait_list& from, wake_batch& to_wake) noexcept;
    static const wait_kind request_kind;

    void wait_for_turn(std::ptrdiff_t count);      // with the lock held, which it releases
    void serve(wake_batch& to_wake) noexcept;      // with the lock held
    [[nodiscard]] bool may_barge() const noexcept; // with the lock held, while a caller waits
    void give_back(std::ptrdiff_t count) noexcept; // with the lock held, which it releases

    // permits_ - available_ permits are held: 0 to max() of them, so that no sum here overflows.
    mutable wait_lock lock_;
    std::ptrdiff_t available_; // guarded by lock_, as is all below
    wait_list waiting_{lock_};
    std::ptrdiff_t called_ = 0; // permits that called waiters ask for: they are told to try
    std::ptrdiff_t permits_;
    std::uint64_t waited_ = 0;
};

inline void permit::release() noexcept {
    if (semaphore* from = std::exchange(from_, nullptr))
        from->release(count_);
}

} // namespace creel::sync
