#include <creel/sync/latch.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>

#include <catch2/catch.hpp>

#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

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

TEST_CASE("counting a latch below zero is caught and names the latch") {
    const auto outcome = run_in_child([] {
        latch l{1};
        l.count_down(2);
    });
    INFO(to_string(outcome));
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("latch made at ") != std::string::npos);
    CHECK(outcome.stderr_text.find("latch_test.cpp:") != std::string::npos);
}

TEST_CASE("a negative latch is caught") {
    const auto outcome = run_in_child([] { latch l{-1}; });
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("must not be negative") != std::string::npos);
}

TEST_CASE("stress: whoever a latch lets through may destroy it at once", "[stress]") {
    int rounds = 0;
    for (int i = 0; i < 2'000; ++i) {
        auto l = std::make_unique<latch>(2);
        latch* shared = l.get();
        std::thread plain{[shared] { shared->count_down(); }};
        std::thread fibers{[shared] {
            run_virtually([shared] { shared->count_down(); }, {},
                          manual_poller::other_threads::yes);
        }};
        l->wait();
        l.reset();
        plain.join();
        fibers.join();
        ++rounds;
    }
    CHECK(rounds == 2'000);
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
