// At most so many per second: a token bucket. Tokens come at an even rate; tokens that are not
// taken are saved, up to a burst.
//
//     sync::rate_limiter limit{{.tokens = 100, .per = 1s, .burst = 20}};
//     for (auto& r : requests) { limit.acquire(); send(r); }      // 20 at once, then 100 a second
//
// Exact: the n-th token comes at the n-th multiple of per / tokens, kept in whole numbers without
// rounding. A waiter that the scheduler serves late does not delay the waiters behind it, so there
// is no drift. Fair: later callers do not overtake a caller that asks for many tokens.
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <source_location>

namespace creel::sync {

struct rate {
    std::int64_t tokens = 1;                           // this many tokens come
    saturating_duration per = std::chrono::seconds{1}; // in this time
    std::int64_t burst = 1; // the most that is saved, and the number at the beginning
};

struct rate_limiter_statistics {
    std::int64_t available = 0; // whole tokens, now
    std::size_t waiting = 0;
    std::uint64_t granted = 0; // tokens, since it was made
    std::uint64_t waited = 0;  // acquisitions that had to wait
};

class rate_limiter {
public:
    // A rate, a time or a burst of zero or less is a bug, and is caught.
    explicit rate_limiter(rate limit,
                          std::source_location made_at = std::source_location::current());
    rate_limiter(const rate_limiter&) = delete;
    rate_limiter& operator=(const rate_limiter&) = delete;

    // Takes `count` tokens. A caller that asks for more than the burst waits until that many have
    // come.
    // Parks: until they are there; first come, first served. Cancel: yes, no token is taken then.
    // Threads: any; all with the same clock. Throws: cancelled; std::bad_alloc for the timer.
    // Cost: a clock read and the primitive's lock when the tokens are there.
    void acquire(std::int64_t count = 1);

    // False if the tokens are not there, or if a caller waits already. Parks: never. Threads: any.
    [[nodiscard]] bool try_acquire(std::int64_t count = 1) noexcept;

    // Another rate from now on. Saved tokens stay, up to the new burst, and so does the part of a
    // token that has come. Waiters are served at the new rate.
    // Parks: never. Threads: any.
    void set_rate(rate limit) noexcept;

    // Threads: any.
    [[nodiscard]] rate_limiter_statistics statistics() const noexcept;

private:
    struct request;
    __extension__ using wide = __int128; // tokens times nanoseconds

    void check(const rate& limit) const noexcept;
    void wait_as_first(std::int64_t count);

    // All of these are called with the lock held. A product of two 64-bit numbers is less than
    // 2^126, and saved_ is never more than such a product, so the sum of two fits into wide.
    [[nodiscard]] wide price(std::int64_t count) const noexcept;
    [[nodiscard]] wide earned(time_point t) const noexcept;
    void accrue(time_point t) noexcept;
    [[nodiscard]] time_point due(std::int64_t count) const noexcept;
    void take(std::int64_t count, time_point at) noexcept;
    void pass_on(time_point t, wake_batch& to_wake) noexcept;

    // A token costs `per` units, and each nanosecond brings `tokens` of them: no rounding anywhere.
    mutable wait_lock lock_;
    rate limit_; // guarded by lock_, as is all below
    wide saved_ = 0;
    time_point as_of_;
    bool has_first_ = false; // a waiter is first, and sleeps on first_ until its tokens are there
    wait_list first_{lock_};
    wait_list waiting_{lock_}; // the waiters behind the first
    std::uint64_t granted_ = 0;
    std::uint64_t waited_ = 0;
};

} // namespace creel::sync
