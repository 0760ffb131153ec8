// The states of the line, and its transitions:
//
//     no waiter is first --1--> a waiter is first --2--+
//           ^                     |  ^                 |
//           +---------3-----------+  +-----------------+
//
//     1  acquire() finds too few tokens: its caller is the first, and sleeps in wait_as_first()
//        until they are due. Later callers wait behind it.
//     2  pass_on(), at the end of wait_as_first(), when the first has its tokens or gives up: the
//        next waiters get their tokens as far as these are there, and the one after them is first.
//     3  pass_on() finds no waiter left.
#include <creel/sync/rate_limiter.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <limits>
#include <mutex>

namespace creel::sync {

// A waiter behind the first. It is woken with its tokens, or to be the first itself.
struct rate_limiter::request : list_waiter {
    explicit request(std::int64_t n) noexcept : list_waiter(plain_wait), count(n) {}
    std::int64_t count;
    bool granted = false;
};

void rate_limiter::check(const rate& limit) const noexcept {
    CREEL_ASSERT(limit.tokens > 0 && limit.per > duration::zero() && limit.burst > 0,
                 lock_.says("tokens, time and burst must be more than zero").c_str());
}

rate_limiter::rate_limiter(rate limit, std::source_location made_at)
    : lock_("rate_limiter", made_at), limit_(limit), as_of_(creel::now()) {
    check(limit);
    saved_ = price(limit.burst);
}

rate_limiter::wide rate_limiter::price(std::int64_t count) const noexcept {
    return wide{count} * limit_.per.count();
}

// What has come since as_of_. Nothing if `t` is earlier: another thread has then read its clock
// later and taken the lock sooner.
rate_limiter::wide rate_limiter::earned(time_point t) const noexcept {
    return t > as_of_ ? wide{(t - as_of_).count()} * limit_.tokens : 0;
}

// While no caller waits, or when the first has given up: saves no more than the burst.
void rate_limiter::accrue(time_point t) noexcept {
    saved_ = std::min(saved_ + earned(t), price(limit_.burst));
    as_of_ = std::max(as_of_, t);
}

// When `count` tokens will be there; as_of_ if they are there already.
time_point rate_limiter::due(std::int64_t count) const noexcept {
    const wide missing = price(count) - saved_;
    if (missing <= 0)
        return as_of_;
    const wide nanoseconds = (missing + limit_.tokens - 1) / limit_.tokens;
    if (nanoseconds >= (time_point::max() - as_of_).count())
        return time_point::max();
    return as_of_ + duration{static_cast<duration::rep>(nanoseconds)};
}

// Takes the tokens as of the moment they were due, however late their waiter is served: the time
// since then counts for the next. Does not bound by the burst, because a caller waits.
void rate_limiter::take(std::int64_t count, time_point at) noexcept {
    saved_ += earned(at) - price(count);
    as_of_ = at;
    if (__builtin_add_overflow(granted_, static_cast<std::uint64_t>(count), &granted_)) [[unlikely]]
        granted_ = std::numeric_limits<std::uint64_t>::max();
}

// The first has been served, or gives up: serves the waiters whose tokens are there too, and makes
// the next waiter the first.
void rate_limiter::pass_on(time_point t, wake_batch& to_wake) noexcept {
    while (auto* next = static_cast<request*>(waiting_.take_front())) {
        to_wake.add(*next);
        const time_point at = due(next->count);
        if (at > t)
            return; // this waiter is the first now
        take(next->count, at);
        next->granted = true;
    }
    has_first_ = false;
}

void rate_limiter::acquire(std::int64_t count) {
    check_cancel();
    CREEL_ASSERT(count >= 0, lock_.says("a negative number of tokens was asked for").c_str());
    const time_point t = creel::now();
    lock_.lock();
    if (!has_first_) {
        accrue(t);
        if (price(count) <= saved_) {
            take(count, as_of_);
            lock_.unlock();
            return;
        }
        has_first_ = true;
        ++waited_;
        lock_.unlock();
    } else {
        request me{count};
        ++waited_;
        waiting_.push_back(me);
        lock_.unlock();
        me.wait();
        if (me.granted)
            return;
    }
    wait_as_first(count);
}

bool rate_limiter::try_acquire(std::int64_t count) noexcept {
    CREEL_ASSERT(count >= 0, lock_.says("a negative number of tokens was asked for").c_str());
    const time_point t = creel::now();
    const std::lock_guard hold{lock_};
    if (has_first_)
        return false;
    accrue(t);
    if (price(count) > saved_)
        return false;
    take(count, as_of_);
    return true;
}

// However it ends, the next must learn that it is the first.
void rate_limiter::wait_as_first(std::int64_t count) {
    struct turn {
        rate_limiter& of;
        explicit turn(rate_limiter& r) noexcept : of(r) {}
        turn(const turn&) = delete;
        turn& operator=(const turn&) = delete;
        ~turn() {
            const time_point t = creel::now();
            wake_batch to_wake;
            const std::lock_guard hold{of.lock_};
            if (!served)
                of.accrue(t); // the burst bounds again what has come for this waiter alone
            of.pass_on(t, to_wake);
        }
        bool served = false;
    };
    turn mine{*this};
    for (;;) {
        list_waiter me{plain_wait};
        const time_point t = creel::now();
        time_point at;
        {
            const std::lock_guard hold{lock_};
            at = due(count);
            if (at <= t) {
                take(count, at);
                mine.served = true;
                return;
            }
            first_.push_back(me);
        }
        static_cast<void>(me.wait_until(at)); // due, or woken by set_rate(): looks again
    }
}

void rate_limiter::set_rate(rate limit) noexcept {
    check(limit);
    const time_point t = creel::now();
    wake_batch to_wake;
    const std::lock_guard hold{lock_};
    saved_ += earned(t);
    as_of_ = std::max(as_of_, t);
    // For a waiter that is served late, more than the burst may have come. To count more tokens
    // than a call can ask for is of no use.
    constexpr wide most = std::numeric_limits<std::int64_t>::max();
    const wide bound = has_first_ ? most : std::min(limit_.burst, limit.burst);
    const wide tokens = saved_ / limit_.per.count();
    const wide part = saved_ % limit_.per.count();
    saved_ = tokens < bound
                 ? tokens * limit.per.count() + part * limit.per.count() / limit_.per.count()
                 : bound * limit.per.count();
    limit_ = limit;
    first_.take_all(to_wake);
}

rate_limiter_statistics rate_limiter::statistics() const noexcept {
    const time_point t = creel::now();
    const std::lock_guard hold{lock_};
    const wide saved = std::min(saved_ + earned(t), price(limit_.burst));
    return {static_cast<std::int64_t>(saved / limit_.per.count()),
            waiting_.size() + (has_first_ ? 1 : 0), granted_, waited_};
}

} // namespace creel::sync
