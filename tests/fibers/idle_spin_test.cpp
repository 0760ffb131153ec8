#include <creel/fibers/detail/spin_policy.hpp>

#include "support/fixture.hpp"
#include "support/gate.hpp"

#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <catch2/catch.hpp>

#include <chrono>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {
constexpr creel::scheduler_options spinning{.idle_spin = 20us};
}

TEST_CASE("a scheduler that was not asked to spin goes to sleep at once") {
    run_virtually([] {
        creel::this_fiber::sleep_for(1h);
        CHECK(creel::statistics().spins == 0);
    });
}

TEST_CASE("what comes while the scheduler spins is met without a sleep") {
    const auto left = run_virtually(
        [](manual_poller& outside) {
            gate g;
            outside.next_poll([&] { g.open(); });
            const auto before = creel::statistics();
            g.pass();
            const auto after = creel::statistics();
            CHECK(after.waits == before.waits);
            CHECK(after.spins == before.spins + 1);
            CHECK(after.spins_paid == before.spins_paid + 1);
        },
        spinning);
    CHECK(left == nothing);
}

TEST_CASE("spins that do not pay become rare") {
    run_virtually(
        [] {
            for (int i = 0; i < 1000; ++i)
                creel::this_fiber::sleep_for(1h);
            const auto s = creel::statistics();
            CHECK(s.waits == 1000);
            CHECK(s.spins == 10); // after 0, 1, 2, 4, ... 256 rounds without one
            CHECK(s.spins_paid == 0);
            CHECK(s.spins_wasted == 10);
        },
        spinning);
}

TEST_CASE("a spin that pays makes the next rounds spin again") {
    run_virtually(
        [](manual_poller& outside) {
            for (int i = 0; i < 5; ++i) // spins in rounds 1, 3 and 6 in vain
                creel::this_fiber::sleep_for(1h);
            for (int i = 0; i < 10; ++i) {
                gate g;
                outside.next_poll([&] { g.open(); });
                g.pass();
            }
            CHECK(creel::statistics().spins == 12);
            CHECK(creel::statistics().spins_paid == 10);
        },
        spinning);
}

TEST_CASE("a timer that comes due while the scheduler spins counts neither way") {
    run_virtually(
        [](manual_poller& outside) {
            for (int i = 0; i < 3; ++i) {
                outside.after(1h, [&] { outside.advance(10us); });
                outside.advance(1h);
                creel::this_fiber::sleep_for(5us);
            }
            CHECK(creel::statistics().spins == 3);
            CHECK(creel::statistics().spins_paid == 0);
            CHECK(creel::statistics().spins_wasted == 0);
        },
        spinning);
}

TEST_CASE("a spin is never longer than 25 us") {
    creel::detail::spin_policy policy;
    CHECK(!policy.enabled());
    policy.limit(1s);
    CHECK(policy.span() == 25us);
    policy.limit(-1s);
    CHECK(!policy.enabled());
}
