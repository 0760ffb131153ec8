#include <creel/sync/barrier.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <csignal>
#include <string>
#include <thread>
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
    // Nobody passes an end of a phase before all have arrived there.
    CHECK(order.size() == 12);
    CHECK(order.substr(0, 4) == "abc|");
    CHECK(order[7] == '|');
    CHECK(order[11] == '|');
    CHECK(left == nothing);
}

TEST_CASE("who is cancelled at a barrier has not arrived") {
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

TEST_CASE("who is cancelled while the last one completes the phase goes through") {
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

TEST_CASE("who arrives may wait later and who drops is not expected any more") {
    std::string order;
    const auto left = run_virtually([&] {
        barrier b{2};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const auto token = b.arrive();
                order += "arrived ";
                b.wait(token);
                order += "through ";
                b.arrive_and_wait(); // alone by now
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

TEST_CASE("a barrier for nobody and one too many who arrive are caught") {
    const auto nobody = run_in_child([] { barrier b{0}; });
    CHECK(nobody.signal == SIGABRT);
    CHECK(nobody.stderr_text.find("barrier made at ") != std::string::npos);
    const auto too_many = run_in_child([] {
        barrier b{1};
        b.arrive_and_drop();
        b.arrive_and_wait();
    });
    CHECK(too_many.signal == SIGABRT);
    CHECK(too_many.stderr_text.find("more have arrived than were expected") != std::string::npos);
}

TEST_CASE("stress: fibers of two threads and plain threads stay in step at a barrier", "[stress]") {
    const int phases = under_tsan ? 300 : 2'000;
    constexpr int members = 6;
    std::atomic<int> arrived{0};
    std::atomic<int> out_of_step{0};
    barrier b{members};
    auto walk = [&] {
        for (int i = 0; i < phases; ++i) {
            arrived.fetch_add(1);
            b.arrive_and_wait();
            if (arrived.load() < (i + 1) * members)
                out_of_step.fetch_add(1);
        }
    };
    std::vector<std::thread> threads;
    for (int t = 0; t < 2; ++t)
        threads.emplace_back([&] {
            run_virtually(
                [&] {
                    creel::with_nursery([&](creel::nursery& n) {
                        n.spawn(walk);
                        n.spawn(walk);
                    });
                },
                {}, manual_poller::other_threads::yes);
        });
    threads.emplace_back(walk);
    threads.emplace_back(walk);
    for (std::thread& t : threads)
        t.join();
    CHECK(out_of_step.load() == 0);
    CHECK(b.statistics().phases == static_cast<std::uint64_t>(phases));
}
