#include <creel/fibers/detail/run/spin_policy.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/settle.hpp"
#include "support/test_body.hpp"

#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <cstdint>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

const creel::scheduler_options spinning{.idle_spin = 20us};

struct counts {
    std::uint64_t waits;
    std::uint64_t spins;
    std::uint64_t spins_paid;
    std::uint64_t spins_wasted;
};

// The statistics of a run, by f alone. The clock begins years later: the timer queue outlives runs
// and may hold keys of earlier runs, and each would cost a wait when it comes due.
counts count(test_body<manual_poller> f, creel::scheduler_options options) {
    counts c{};
    const auto left = run_virtually(
        [&](manual_poller& outside) {
            outside.advance(100'000h);
            settle_and_poll();
            const auto before = creel::statistics();
            f(outside);
            const auto after = creel::statistics();
            c = {after.waits - before.waits, after.spins - before.spins,
                 after.spins_paid - before.spins_paid, after.spins_wasted - before.spins_wasted};
        },
        options);
    CHECK(left == nothing);
    return c;
}

} // namespace

TEST_CASE("a scheduler that was not asked to spin goes to sleep at once") {
    const auto s = count([] { creel::this_fiber::sleep_for(1h); }, {});
    CHECK(s.waits == 1);
    CHECK(s.spins == 0);
}

TEST_CASE("what comes while the scheduler spins is met without a sleep") {
    const auto s = count(
        [](manual_poller& outside) {
            gate g;
            outside.next_poll([&] { g.open(); });
            g.pass();
        },
        spinning);
    CHECK(s.waits == 0);
    CHECK(s.spins == 1);
    CHECK(s.spins_paid == 1);
}

TEST_CASE("spins that do not pay become rare") {
    const auto s = count(
        [] {
            for (int i = 0; i < 1000; ++i)
                creel::this_fiber::sleep_for(1h);
        },
        spinning);
    CHECK(s.waits == 1000);
    CHECK(s.spins == 10); // after 0, 1, 2, 4, ... 256 rounds without one
    CHECK(s.spins_paid == 0);
    CHECK(s.spins_wasted == 10);
}

TEST_CASE("a spin that pays makes the next rounds spin again") {
    const auto s = count(
        [](manual_poller& outside) {
            for (int i = 0; i < 5; ++i) // spins in rounds 1, 3 and 6 in vain
                creel::this_fiber::sleep_for(1h);
            for (int i = 0; i < 10; ++i) {
                gate g;
                outside.next_poll([&] { g.open(); });
                g.pass();
            }
        },
        spinning);
    CHECK(s.spins == 12);
    CHECK(s.spins_paid == 10);
}

TEST_CASE("a timer that comes due while the scheduler spins counts neither way") {
    const auto s = count(
        [](manual_poller& outside) {
            for (int i = 0; i < 3; ++i) {
                outside.after(1h, [&] { outside.advance(10us); });
                outside.advance(1h);
                creel::this_fiber::sleep_for(5us);
            }
        },
        spinning);
    CHECK(s.spins == 3);
    CHECK(s.spins_paid == 0);
    CHECK(s.spins_wasted == 0);
}

TEST_CASE("a spin is never longer than 25 us") {
    creel::detail::spin_policy policy;
    CHECK(!policy.enabled());
    policy.limit(1s);
    CHECK(policy.span() == 25us);
    policy.limit(-1s);
    CHECK(!policy.enabled());
}
