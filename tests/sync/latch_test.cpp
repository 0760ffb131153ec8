#include <creel/sync/latch.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/relay.hpp"
#include "support/time_limit.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <deque>
#include <memory>
#include <string>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::latch;

TEST_CASE("a latch lets everybody through when its count is zero and from then on") {
    std::string order;
    const auto left = run_virtually([&] {
        latch l{2};
        creel::with_nursery([&](creel::nursery& n) {
            for (char c : {'a', 'b'})
                n.spawn([&, c] {
                    l.wait();
                    order += c;
                });
            creel::this_fiber::yield();
            l.count_down();
            creel::this_fiber::yield();
            CHECK(order.empty());
            CHECK(!l.try_wait());
            CHECK(l.statistics().waiting == 2);
            CHECK(l.statistics().count == 1);
            l.arrive_and_wait();
            CHECK(l.try_wait());
        });
        l.wait();
    });
    CHECK(order == "ab");
    CHECK(left == nothing);
}

TEST_CASE("a cancelled wait for a latch leaves the others waiting") {
    bool went = false;
    bool was_cancelled = false;
    const auto left = run_virtually([&] {
        latch l{1};
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { was_cancelled = !scope.run([&] { l.wait(); }); });
            n.spawn([&] {
                l.wait();
                went = true;
            });
            creel::this_fiber::yield();
            scope.cancel();
            CHECK(l.statistics().waiting == 1);
            l.count_down();
        });
    });
    CHECK(was_cancelled);
    CHECK(went);
    CHECK(left == nothing);
}

TEST_CASE("the wait for an open latch is a cancellation point") {
    bool passed = true;
    run_virtually([&] {
        latch l{0};
        creel::cancel_scope scope;
        scope.cancel();
        passed = scope.run([&] { l.wait(); });
    });
    CHECK(!passed);
}

TEST_CASE("a cancelled arrive_and_wait has not arrived") {
    bool before = true;
    bool meanwhile = true;
    const auto left = run_virtually([&] {
        latch l{3};
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { meanwhile = scope.run([&] { l.arrive_and_wait(2); }); });
            creel::this_fiber::yield();
            CHECK(l.statistics().count == 1);
            scope.cancel();
            creel::this_fiber::yield();
            CHECK(l.statistics().count == 3);
            CHECK(l.statistics().waiting == 0);
        });
        creel::cancel_scope cancelled_before;
        cancelled_before.cancel();
        before = cancelled_before.run([&] { l.arrive_and_wait(); });
        CHECK(l.statistics().count == 3);
    });
    CHECK(!before);
    CHECK(!meanwhile);
    CHECK(left == nothing);
}

TEST_CASE("stress: no caller passes a latch before all have counted it down", "[stress]") {
    constexpr crowd_options who;
    constexpr unsigned everybody = members_of(who);
    struct step {
        latch all{everybody};
        std::atomic<unsigned> arrived{0};
    };
    constexpr unsigned most_rounds = 1'000;
    std::deque<step> steps(most_rounds);
    std::atomic<unsigned> passed{0};
    std::atomic<int> wrong{0};
    run_crowd("latch stress", who, [&](crowd_member& me) {
        for (unsigned i = 0; i < most_rounds; ++i) {
            step& s = steps[i];
            ++s.arrived;
            s.all.count_down();
            if (!me.goes_on(i, most_rounds))
                continue; // the others may wait for this member
            me.persist([&] { s.all.wait(); });
            wrong += s.arrived != everybody;
            ++passed;
        }
    });
    CHECK(wrong == 0);
    CHECK(passed > 0);
    for (const step& s : steps)
        CHECK(s.all.statistics().count == 0);
}

TEST_CASE("stress: a waiter that a latch lets through may destroy it at once", "[stress]") {
    constexpr crowd_options who{
        .schedulers = 1, .fibers_each = 1, .plain_threads = 1, .virtual_time = true};
    relay<latch> latches;
    const auto count_each = [&](crowd_member&) {
        latches.for_each([](latch& l) { l.count_down(); });
    };
    crowd counters{"latch destruction stress", who, count_each};
    const time_limit limit{1s};
    int rounds = 0;
    for (; goes_on(rounds, 10'000, limit); ++rounds) {
        const auto l = std::make_unique<latch>(members_of(who));
        latches.pass_on(*l);
        l->wait();
    }
    latches.end();
    counters.join();
    CHECK(rounds > 0);
}
