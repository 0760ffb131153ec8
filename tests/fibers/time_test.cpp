#include <creel/fibers/time.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/outcome.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/latency_histogram.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <ratio>
#include <string>
#include <type_traits>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::duration;
using creel::saturating_duration;
using creel::saturating_time_point;
using creel::time_point;

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::years;

template <typename Duration>
using steady_time = std::chrono::time_point<creel::clock, Duration>;

// A duration that fits keeps its value, in any unit.
static_assert(saturating_duration{} == 0ns && saturating_duration{-7ns} == -7ns);
static_assert(saturating_duration{1ms} == 1ms && saturating_duration{years{-290}} == years{-290});
static_assert(saturating_duration{std::chrono::duration<unsigned char>{200}} == 200s);
static_assert(saturating_duration{9'223'372'036s} == 9'223'372'036s);
static_assert(saturating_duration{-9'223'372'036s} == -9'223'372'036s);
static_assert(saturating_duration{duration::max()} == duration::max());
static_assert(saturating_duration{duration::min()} == duration::min());
static_assert(saturating_time_point{steady_time<hours>{5h}} == time_point{5h});
static_assert(saturating_time_point{time_point::min()} == time_point::min());

// A duration that does not fit becomes the end of the range.
template <typename Duration>
constexpr bool saturates =
    saturating_duration{Duration::max()} == duration::max() &&
    saturating_duration{Duration::min()} ==
        (std::is_unsigned_v<typename Duration::rep> ? duration::zero() : duration::min()) &&
    saturating_time_point{steady_time<Duration>::max()} == time_point::max();
static_assert(saturates<hours> && saturates<seconds> && saturates<milliseconds>);
static_assert(saturates<std::chrono::microseconds> && saturates<years>);
static_assert(saturates<std::chrono::duration<std::uint64_t>>);
static_assert(saturates<std::chrono::duration<std::uint64_t, std::nano>>);
static_assert(saturates<std::chrono::duration<std::int32_t, hours::period>>);
static_assert(saturating_duration{9'223'372'037s} == duration::max());
static_assert(saturating_duration{-9'223'372'037s} == duration::min());

// Only the types that std::chrono converts implicitly, and no others.
template <typename From, typename To>
constexpr bool taken = std::convertible_to<From, To>;
static_assert(!taken<std::chrono::duration<double>, saturating_duration>);
static_assert(!taken<std::chrono::duration<std::int64_t, std::pico>, saturating_duration>);
static_assert(!taken<int, saturating_duration> && !taken<time_point, saturating_duration>);
static_assert(!taken<std::chrono::system_clock::time_point, saturating_time_point>);
static_assert(!taken<duration, saturating_time_point> && !taken<int, saturating_time_point>);

// Types of the caller's own, by the types to which they convert.
struct own_limit {
    constexpr operator duration() const { return 5s; }
};
struct derived_limit : seconds {
    constexpr explicit derived_limit(seconds s) : seconds(s) {}
};
static_assert(saturating_duration{own_limit{}} == 5s);
static_assert(saturating_duration{derived_limit{seconds::max()}} == duration::max());

// It costs no more than a duration, and can stand wherever a duration can.
static_assert(std::is_trivially_copyable_v<saturating_duration>);
static_assert(sizeof(saturating_duration) == sizeof(duration));
static_assert(std::is_nothrow_convertible_v<hours, saturating_duration>);
static_assert(std::is_nothrow_convertible_v<steady_time<hours>, saturating_time_point>);
static_assert(!std::is_nothrow_convertible_v<own_limit, saturating_duration>);

struct options {
    int before = 0;
    saturating_duration limit = 1s;
    saturating_time_point end{};
};
constexpr duration longer(options o, duration other, bool if_asked) {
    const duration chosen = if_asked ? o.limit : other;
    return std::max<duration>(o.limit, chosen + o.limit / 2);
}
static_assert(options{}.limit == 1s && options{.limit = 2min}.limit == 120s);
static_assert(longer({.limit = 2s}, 5s, false) == 6s && longer({}, 5s, true) == 1500ms);
static_assert(options{.limit = hours::max()}.limit > 1h);
static_assert(options{.end = steady_time<hours>::max()}.end - 1ns < time_point::max());
static_assert(std::same_as<decltype(time_point{} + options{}.limit), time_point>);

const auto sleep_a_day = [] { creel::this_fiber::sleep_for(24h); };

} // namespace

TEST_CASE("a limit of more than 292 years, in any unit, never passes") {
    const auto left = run_virtually([] {
        CHECK(creel::move_on_after(hours::max(), sleep_a_day));
        CHECK(creel::move_on_after(seconds::max(), sleep_a_day));
        CHECK(creel::move_on_after(milliseconds::max(), sleep_a_day));
        CHECK(creel::move_on_after(years{300}, sleep_a_day));
        CHECK(creel::move_on_after(10'000'000'000s, sleep_a_day));
        CHECK(creel::move_on_at(steady_time<hours>::max(), sleep_a_day));
        CHECK(outcome_of([] { creel::fail_after(hours::max(), sleep_a_day); }) == "nothing");
        CHECK(outcome_of([] { creel::fail_at(steady_time<hours>::max(), sleep_a_day); }) ==
              "nothing");
        creel::cancel_scope moved{creel::now() + 1s};
        moved.set_deadline(steady_time<seconds>::max());
        CHECK(moved.run(sleep_a_day));
        CHECK(creel::cancel_scope{steady_time<hours>::max()}.run([] {
            CHECK(creel::current_deadline() == time_point::max());
            sleep_a_day();
        }));
    });
    CHECK(left == nothing);
}

TEST_CASE("a limit of less than no time has passed, however far below") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        CHECK(!creel::move_on_after(hours::min(), sleep_a_day));
        CHECK(!creel::move_on_after(years{-300}, sleep_a_day));
        CHECK(!creel::move_on_after(-10'000'000'000s, sleep_a_day));
        CHECK(!creel::move_on_at(steady_time<hours>::min(), sleep_a_day));
        CHECK_THAT(outcome_of([] { creel::fail_after(hours::min(), sleep_a_day); }),
                   Catch::StartsWith("timed out after -9223372036.855s ("));
        creel::this_fiber::sleep_for(hours::min());
        creel::this_fiber::sleep_until(steady_time<seconds>::min());
        CHECK(outside.now() == begin);
    });
}

TEST_CASE("a sleep of more than 292 years, in any unit, ends with its scope") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        CHECK(!creel::move_on_after(1s, [] { creel::this_fiber::sleep_for(hours::max()); }));
        CHECK(!creel::move_on_after(1s, [] { creel::this_fiber::sleep_for(years{300}); }));
        CHECK(!creel::move_on_after(
            1s, [] { creel::this_fiber::sleep_until(steady_time<hours>::max()); }));
        CHECK(outside.now() - begin == 3s);
    });
    CHECK(left == nothing);
}

TEST_CASE("a grace of more than 292 years never passes, and a later cancel shortens it") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::cancel_scope scope;
        CHECK(!scope.run([&] {
            scope.cancel("some day", hours::max());
            CHECK(scope.cancel_called());
            CHECK(creel::current_deadline() == time_point::max());
            sleep_a_day();
            scope.token().cancel("some other day", years{300});
            sleep_a_day();
            scope.cancel("now", hours::min());
            sleep_a_day();
        }));
        CHECK(scope.reason()->text == "some day");
        creel::with_nursery([](creel::nursery& n) {
            n.cancel("some day", seconds::max());
            n.spawn(sleep_a_day);
        });
        CHECK(outside.now() - begin == 72h);
    });
    CHECK(left == nothing);
}

TEST_CASE("the time after another saturates at both ends") {
    using creel::deadline_after;
    CHECK(deadline_after(time_point{1h}, 1h) == time_point{2h});
    CHECK(deadline_after(time_point{1h}, duration::max()) == time_point::max());
    CHECK(deadline_after(time_point{-1h}, duration::max()) == time_point::max() - 1h);
    CHECK(deadline_after(time_point::max(), 1ns) == time_point::max());
    CHECK(deadline_after(time_point::max(), -1ns) == time_point::max() - 1ns);
    CHECK(deadline_after(time_point{-1h}, duration::min()) == time_point::min());
    CHECK(deadline_after(time_point::min(), -1ns) == time_point::min());
    CHECK(deadline_after(time_point::min(), duration::max()) == time_point{-1ns});
}

TEST_CASE("a latency of more than 292 years counts among the longest") {
    creel::latency_histogram all;
    all.add(hours::max());
    all.add(hours::min()); // as zero
    CHECK(all.counts.back() == 1);
    CHECK(all.counts.front() == 1);
}
