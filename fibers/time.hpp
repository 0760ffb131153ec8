// creel's clock, and durations and points in time that saturate instead of overflowing.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <chrono>
#include <concepts>
#include <ratio>
#include <type_traits>

namespace creel {

// The clock of creel. It never steps back, and it counts while the process is stopped. A reading
// costs about 24 ns.
using clock = std::chrono::steady_clock;
using time_point = clock::time_point;
using duration = clock::duration;

namespace detail {

static_assert(std::same_as<duration, std::chrono::nanoseconds>);

// A std::chrono::duration that converts to creel's duration by a product of built-in integers.
template <typename Duration>
concept may_overflow =
    std::convertible_to<Duration, duration> && !std::is_class_v<typename Duration::rep>;

template <typename Rep, typename Period>
    requires may_overflow<std::chrono::duration<Rep, Period>>
constexpr duration saturated(const std::chrono::duration<Rep, Period>& d) noexcept {
    constexpr auto nanoseconds = std::ratio_divide<Period, duration::period>::num;
    duration::rep count{};
    if (__builtin_mul_overflow(d.count(), nanoseconds, &count))
        return d.count() > 0 ? duration::max() : duration::min();
    return duration{count};
}
constexpr duration saturated(duration d) noexcept {
    return d;
}

template <typename Duration>
    requires may_overflow<Duration>
constexpr time_point saturated(const std::chrono::time_point<clock, Duration>& t) noexcept {
    return time_point{saturated(t.time_since_epoch())};
}
constexpr time_point saturated(time_point t) noexcept {
    return t;
}

} // namespace detail

// A duration as a parameter or an option: every function of creel that takes a duration takes this
// type. It is a creel::duration, and every type that converts to creel::duration converts to it.
// But std::chrono converts hours::max(), 300 years or 10'000'000'000s by a product that overflows
// and may become negative. Here a duration that does not fit in 64 bits of nanoseconds, which are
// 292 years, becomes duration::max(), which never passes, or duration::min().
// Threads: any. Cost: none for nanoseconds and constants, else a multiplication.
struct saturating_duration : duration {
    constexpr saturating_duration() noexcept : duration{} {}
    template <typename D>
        requires std::convertible_to<const D&, duration>
    constexpr saturating_duration(const D& d) noexcept(noexcept(detail::saturated(d)))
        : duration{detail::saturated(d)} {}
};

// The same for a point in time of the steady clock, in any unit; time_point::max() never comes. A
// sum in the caller's code is std::chrono's: now() + hours::max() overflows before creel sees it.
// Give such a limit as a duration.
struct saturating_time_point : time_point {
    constexpr saturating_time_point() noexcept : time_point{} {}
    template <typename T>
        requires std::convertible_to<const T&, time_point>
    constexpr saturating_time_point(const T& t) noexcept(noexcept(detail::saturated(t)))
        : time_point{detail::saturated(t)} {}
};

// The time d after t, saturating; d may be negative. The second form counts from now. It returns
// the type that a scope takes: with a temporary in between GCC does not inline fail_after().
// Threads: any. Cost: an addition; the second form reads the clock.
[[nodiscard]] time_point deadline_after(time_point t, duration d) noexcept;
[[nodiscard]] saturating_time_point deadline_after(duration d) noexcept;

} // namespace creel
