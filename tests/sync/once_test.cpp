#include <creel/sync/once.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <csignal>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::once;

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
                try {
                    o.call([&] {
                        creel::this_fiber::yield();
                        throw std::runtime_error("no");
                    });
                } catch (const std::runtime_error&) {
                    order += "failed ";
                }
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
                try {
                    o.call([&] {
                        creel::this_fiber::yield();
                        throw std::runtime_error("no");
                    });
                } catch (const std::runtime_error&) {
                    scope.cancel(); // the turn is the next one's already
                }
            });
            n.spawn([&] { scope.run([&] { o.call([] { creel::this_fiber::sleep_for(1h); }); }); });
            n.spawn([&] { o.call([&] { done = true; }); });
        });
    });
    CHECK(done);
    CHECK(left == nothing);
}

TEST_CASE("a once called by its own function is caught") {
    const auto outcome = run_in_child([] {
        once o;
        o.call([&] { o.call([] {}); });
    });
    INFO(to_string(outcome));
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("once made at ") != std::string::npos);
}

TEST_CASE("stress: a once that fails at times is done once among fibers and plain threads",
          "[stress]") {
    int wrong = 0;
    for (int round = 0; round < 300; ++round) {
        once o;
        std::atomic<int> done{0};
        std::atomic<int> tries{0};
        auto call = [&] {
            for (;;) {
                try {
                    o.call([&] {
                        if (tries.fetch_add(1) < 3)
                            throw std::runtime_error("not yet");
                        done.fetch_add(1);
                    });
                    return;
                } catch (const std::runtime_error&) {
                }
            }
        };
        std::vector<std::thread> threads;
        threads.emplace_back([&] {
            run_virtually(
                [&] {
                    creel::with_nursery([&](creel::nursery& n) {
                        for (int i = 0; i < 4; ++i)
                            n.spawn(call);
                    });
                },
                {}, manual_poller::other_threads::yes);
        });
        threads.emplace_back(call);
        threads.emplace_back(call);
        for (std::thread& t : threads)
            t.join();
        wrong += done.load() == 1 ? 0 : 1;
    }
    CHECK(wrong == 0);
}
