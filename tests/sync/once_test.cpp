#include <creel/sync/once.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/occupancy.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <deque>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::once;

namespace {
void yield_and_fail() {
    creel::this_fiber::yield();
    throw std::runtime_error("no");
}
} // namespace

TEST_CASE("a once is called by the first and the others wait until it is done") {
    int calls = 0;
    int after = 0;
    const auto left = run_virtually([&] {
        once o;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&] {
                    o.call([&] {
                        creel::this_fiber::sleep_for(1s);
                        ++calls;
                    });
                    CHECK(calls == 1);
                    ++after;
                });
            creel::this_fiber::yield();
            CHECK(o.statistics().running);
            CHECK(o.statistics().waiting == 2);
            CHECK(!o.done());
        });
        CHECK(o.done());
        o.call([&] { ++calls; });
    });
    CHECK(calls == 1);
    CHECK(after == 3);
    CHECK(left == nothing);
}

TEST_CASE("a call that throws is the thrower's alone and the next in line tries") {
    std::string order;
    const auto left = run_virtually([&] {
        once o;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                CHECK_THROWS_AS(o.call(&yield_and_fail), std::runtime_error);
                order += "failed ";
            });
            for (char c : {'a', 'b'})
                n.spawn([&, c] { o.call([&] { order += c; }); });
        });
        CHECK(o.statistics().failed == 1);
    });
    CHECK(order == "failed a");
    CHECK(left == nothing);
}

TEST_CASE("a cancelled caller hands its turn to the next and one that only waits just leaves") {
    std::string order;
    const auto left = run_virtually([&] {
        once o;
        creel::cancel_scope leader;
        creel::cancel_scope waiter;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                leader.run([&] { o.call([] { creel::this_fiber::sleep_for(1h); }); });
                order += "leader ";
            });
            n.spawn([&] {
                waiter.run([&] { o.call([&] { order += "never "; }); });
                order += "waiter ";
            });
            n.spawn([&] { o.call([&] { order += "next"; }); });
            creel::this_fiber::yield();
            waiter.cancel();
            creel::this_fiber::yield();
            leader.cancel();
        });
    });
    CHECK(order == "waiter leader next");
    CHECK(left == nothing);
}

TEST_CASE("a waiter that is handed the turn and cancelled in the same instant hands it on") {
    bool done = false;
    const auto left = run_virtually([&] {
        once o;
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                CHECK_THROWS_AS(o.call(&yield_and_fail), std::runtime_error);
                scope.cancel(); // the turn already belongs to the next caller
            });
            n.spawn([&] { scope.run([&] { o.call([] { creel::this_fiber::sleep_for(1h); }); }); });
            n.spawn([&] { o.call([&] { done = true; }); });
        });
    });
    CHECK(done);
    CHECK(left == nothing);
}

TEST_CASE("stress: a once is done once although callers fail and are cut short", "[stress]") {
    struct step {
        once done{};
        occupancy running{1};
        int times = 0; // written by the caller that runs it, read by later callers
    };
    constexpr unsigned most_rounds = 3'000;
    std::deque<step> steps(most_rounds);
    std::atomic<int> wrong{0};
    run_crowd("once stress", {}, [&](crowd_member& me) {
        const auto call = [&](step& s) {
            s.done.call([&] {
                const occupancy::stay mine{s.running};
                let_others_run(); // may be cut short
                if (me.random() % 3 == 0)
                    throw std::runtime_error("not this time");
                ++s.times;
            });
        };
        for (unsigned i = 0; me.goes_on(i, most_rounds); ++i) {
            step& s = steps[i];
            for (bool over = false; !over;) {
                try {
                    over = me.perhaps_cut_short([&] { call(s); });
                } catch (
                    const std::runtime_error&) { // the turn goes to the next caller, or comes back
                }
            }
            wrong += s.times != 1;
        }
    });
    CHECK(wrong == 0);
    CHECK(steps.front().done.done());
    for (const step& s : steps) {
        CHECK(s.times == (s.done.done() ? 1 : 0));
        CHECK(s.running.violations() == 0);
    }
}
