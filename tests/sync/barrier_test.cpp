#include <creel/sync/barrier.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::barrier;

TEST_CASE("a barrier lets everybody on when all have arrived and begins anew") {
    std::string order;
    const auto left = run_virtually([&] {
        barrier b{3, [&] { order += '|'; }};
        creel::with_nursery([&](creel::nursery& n) {
            for (char c : {'a', 'b', 'c'})
                n.spawn([&, c] {
                    for (int i = 0; i < 3; ++i) {
                        order += c;
                        b.arrive_and_wait();
                    }
                });
        });
        CHECK(b.statistics().phases == 3);
    });
    // No caller passes the end of a phase before all have arrived there.
    CHECK(order.size() == 12);
    CHECK(order.substr(0, 4) == "abc|");
    CHECK(order[7] == '|');
    CHECK(order[11] == '|');
    CHECK(left == nothing);
}

TEST_CASE("a caller that is cancelled at a barrier has not arrived") {
    int through = 0;
    const auto left = run_virtually([&] {
        barrier b{2};
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { scope.run([&] { b.arrive_and_wait(); }); });
            creel::this_fiber::yield();
            CHECK(b.statistics().arrived == 1);
            scope.cancel();
            CHECK(b.statistics().arrived == 0);
            for (int i = 0; i < 2; ++i)
                n.spawn([&] {
                    b.arrive_and_wait();
                    ++through;
                });
        });
    });
    CHECK(through == 2);
    CHECK(left == nothing);
}

TEST_CASE("a caller that is cancelled while the last one completes the phase goes on") {
    bool through = false;
    const auto left = run_virtually([&] {
        creel::cancel_scope scope;
        barrier b{2, [&] { scope.cancel(); }};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                scope.run([&] {
                    b.arrive_and_wait();
                    through = true;
                });
            });
            creel::this_fiber::yield();
            b.arrive_and_wait();
        });
        CHECK(b.statistics().phases == 1);
        CHECK(b.statistics().arrived == 0);
    });
    CHECK(through);
    CHECK(left == nothing);
}

TEST_CASE("a caller that arrives may wait later and one that drops is not expected any more") {
    std::string order;
    const auto left = run_virtually([&] {
        barrier b{2};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const auto token = b.arrive();
                order += "arrived ";
                b.wait(token);
                order += "through ";
                b.arrive_and_wait(); // alone by then
                order += "alone";
            });
            creel::this_fiber::yield();
            CHECK(order == "arrived ");
            b.arrive_and_drop();
        });
        CHECK(b.statistics().expected == 1);
        CHECK(b.statistics().phases == 2);
    });
    CHECK(order == "arrived through alone");
    CHECK(left == nothing);
}

TEST_CASE("bug: an arrival that drops counts as one in its own phase") {
    const auto left = run_virtually([] {
        barrier b{3};
        b.arrive_and_drop();
        CHECK(b.statistics().arrived == 1);
        CHECK(b.statistics().expected == 3);
        static_cast<void>(b.arrive());
        CHECK(b.statistics().arrived == 2);
        static_cast<void>(b.arrive());
        CHECK(b.statistics().phases == 1);
        CHECK(b.statistics().arrived == 0);
        CHECK(b.statistics().expected == 2);
    });
    CHECK(left == nothing);
}

TEST_CASE("stress: no caller passes a barrier before all have arrived", "[stress]") {
    constexpr crowd_options who;
    constexpr unsigned everybody = members_of(who);
    constexpr unsigned most_rounds = 2'000;
    const time_limit limit{1s};
    unsigned rounds = 0;
    bool last_round = false; // written by the last to arrive, before the others go on
    barrier step{everybody, [&] { last_round = !goes_on(++rounds, most_rounds, limit); }};
    std::vector<std::atomic<unsigned>> progress(everybody);
    std::atomic<int> wrong{0};
    run_crowd("barrier stress", who, [&](crowd_member& me) {
        for (unsigned round = 1; round == 1 || !last_round; ++round) {
            progress[me.number] = round;
            me.persist([&] { step.arrive_and_wait(); }); // a call that is cut short has not arrived
            for (const auto& other : progress)
                wrong += other < round;
        }
    });
    CHECK(wrong == 0);
    CHECK(rounds > 0);
    CHECK(step.statistics().phases == rounds);
    CHECK(step.statistics().arrived == 0);
    for (const auto& each : progress)
        CHECK(each == rounds);
}
