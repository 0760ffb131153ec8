// The audit of cancels: which code swallows them, and how long they take.
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/count_of.hpp"
#include "support/fixture.hpp"
#include "support/process_end.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/latency_histogram.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <cstdlib>
#include <mutex>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

void sleep_long() {
    creel::this_fiber::sleep_for(1h);
}

// Waits this many times after its scope was cancelled, and catches each `cancelled` but the last.
void swallow(int waits) {
    for (int i = 0; i < waits; ++i) {
        try {
            sleep_long();
        } catch (...) {
        }
    }
    sleep_long();
}

struct waits_in_destructor {
    ~waits_in_destructor() { creel::this_fiber::sleep_for(1s); }
};

} // namespace

TEST_CASE("a fiber that swallows `cancelled` and waits again is counted, each time") {
    run_virtually([] {
        static_cast<void>(creel::move_on_after(1s, [] { swallow(3); }));
        CHECK(creel::statistics().cancels_swallowed == 3);
        creel::with_nursery([](creel::nursery& n) {
            for (int i = 0; i < 10; ++i)
                n.spawn([] { swallow(1); });
            creel::this_fiber::yield();
            n.cancel();
        });
        CHECK(creel::statistics().cancels_swallowed == 13);
    });
}

TEST_CASE("what lets `cancelled` pass is not counted as swallowing it") {
    run_virtually([] {
        for (int i = 0; i < 3; ++i) // scopes at one address, one after the other
            CHECK(!creel::move_on_after(1s, sleep_long));
        CHECK(!creel::move_on_after(1s, [] { // rethrown after a wait that was cancelled too
            try {
                sleep_long();
            } catch (const creel::cancelled&) {
                sleep_long();
                throw;
            }
        }));
        CHECK(!creel::move_on_after(1s, [] { // cleanup while unwinding
            const waits_in_destructor cleanup;
            sleep_long();
        }));
        CHECK(!creel::move_on_after(1s, [] { // cleanup under a shield
            try {
                sleep_long();
            } catch (...) {
                creel::shield([] { creel::this_fiber::sleep_for(1s); });
                throw;
            }
        }));
        CHECK(!creel::move_on_after(1s, [] { // an inner scope that absorbs its own cancel
            for (int i = 0; i < 3; ++i)
                static_cast<void>(creel::move_on_after(1ms, sleep_long));
            sleep_long();
        }));
        for (int i = 0; i < 3; ++i) // tasks on one recycled fiber
            creel::with_nursery([](creel::nursery& n) {
                n.spawn(sleep_long);
                creel::this_fiber::yield();
                n.cancel();
            });
        CHECK(creel::statistics().cancels_swallowed == 0);
    });
}

TEST_CASE("a `cancelled` that a nursery drops for a real error was not swallowed") {
    run_virtually([] {
        CHECK(!creel::move_on_after(1s, [] {
            try {
                creel::with_nursery([](creel::nursery& n) {
                    n.spawn([] {
                        try {
                            sleep_long();
                        } catch (const creel::cancelled&) {
                            throw std::runtime_error("real");
                        }
                    });
                    sleep_long();
                });
            } catch (const std::runtime_error&) {
            }
            sleep_long();
        }));
        CHECK(creel::statistics().cancels_swallowed == 0);
    });
}

TEST_CASE("debug mode names once who swallows `cancelled`, and where it was spawned") {
    const auto report = [](bool debug) {
        return run_in_child([debug] {
                   run_virtually(
                       [] {
                           creel::with_nursery([](creel::nursery& n) {
                               n.spawn({.name = "stubborn"}, [] { swallow(3); });
                               creel::this_fiber::yield();
                               n.cancel("go\naway");
                           });
                       },
                       {.debug = debug});
               })
            .stderr_text;
    };
    const std::string text = report(true);
    INFO(text);
    CHECK(count_of("stubborn (#", text) == 1);
    CHECK(text.find("audit_test.cpp:") != std::string::npos);
    CHECK(text.find("swallowed `cancelled` (go\\naway)") != std::string::npos);
    CHECK(report(false).empty());
}

TEST_CASE("CREEL_DEBUG=1 turns debug mode on") {
    const auto outcome = run_in_child([] {
        ::setenv("CREEL_DEBUG", "1", 1);
        run_virtually([] { static_cast<void>(creel::move_on_after(1s, [] { swallow(1); })); });
    });
    INFO(to_string(outcome));
    CHECK(outcome.stderr_text.find("main (#") != std::string::npos);
}

TEST_CASE("a fiber whose destructor lets `cancelled` out is named before the process ends") {
    const std::string message = abort_of_run([] {
        creel::with_nursery([](creel::nursery& n) {
            n.spawn({.name = "careless"}, [] { const waits_in_destructor on_normal_exit; });
            creel::this_fiber::yield();
            n.cancel();
        });
    });
    CHECK_THAT(message, Catch::Contains("careless (#"));
    CHECK_THAT(message, Catch::Contains("creel::shield"));
}

TEST_CASE("debug mode names once who waits inside a std::call_once") {
    const auto report = [](bool debug) {
        return run_in_child([debug] {
                   std::once_flag around;
                   std::call_once(around, [debug] { // the thread's call_once, not a fiber's
                       run_virtually(
                           [] {
                               std::once_flag flags[2];
                               creel::with_nursery([&](creel::nursery& n) {
                                   for (std::once_flag& flag : flags)
                                       n.spawn({.name = "initializer"}, [&] {
                                           std::call_once(flag,
                                                          [] { creel::this_fiber::sleep_for(1s); });
                                       });
                                   n.spawn([] { creel::this_fiber::sleep_for(1s); });
                               });
                           },
                           {.debug = debug});
                   });
               })
            .stderr_text;
    };
    const std::string text = report(true);
    INFO(text);
    CHECK(count_of("creel: debug: initializer (#", text) == 1);
    CHECK(count_of("creel: debug", text) == 1);
    CHECK_THAT(text, Catch::Contains("waits inside the function of a std::call_once"));
    CHECK(report(false).empty());
}

TEST_CASE("the latency of cancels is kept, from the request until the scope was left") {
    run_virtually([](manual_poller& outside) {
        CHECK(creel::statistics().cancel_latency.total() == 0);
        CHECK(creel::move_on_after(1s, [] {})); // none
        CHECK(creel::statistics().cancel_latency.total() == 0);
        const auto slow_cleanup = [] {
            const waits_in_destructor a_second;
            sleep_long();
        };
        CHECK(!creel::move_on_after(5s, slow_cleanup));
        creel::cancel_scope by_hand;
        outside.after(1h, [&] { by_hand.cancel("asked", 2s); });
        CHECK(!by_hand.run([] { creel::this_fiber::sleep_for(24h); }));
        const auto latency = creel::statistics().cancel_latency;
        CHECK(latency.total() == 2);
        CHECK(latency.quantile(0.5) > 1s);
        CHECK(latency.quantile(0.5) <= 2s);
        CHECK(latency.quantile(1.0) > 2s);
        CHECK(latency.quantile(1.0) <= 4s);
    });
}

TEST_CASE("a latency histogram takes anything") {
    creel::latency_histogram h;
    CHECK(h.quantile(0.5) == creel::duration{});
    h.add(-1s);
    h.add(creel::duration{});
    CHECK(h.counts[0] == 2);
    h.add(1ns);
    CHECK(h.counts[1] == 1);
    h.add(1023ns);
    CHECK(h.counts[10] == 1);
    h.add(1024ns);
    CHECK(h.counts[11] == 1);
    h.add(creel::duration::max());
    CHECK(h.counts.back() == 1);
    CHECK(h.total() == 6);
}
