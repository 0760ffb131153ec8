// cancel(reason, grace): its effects at once, and those when the grace has passed.
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/outcome.hpp"
#include "support/when_cancelled.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <string>
#include <thread>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("with a grace cancel_called is true at once, and waits throw when it has passed") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::cancel_scope s;
        const auto token = s.token();
        std::string reason;
        CHECK(!s.run([&] {
            s.cancel("shutting down", 5s);
            CHECK(s.cancel_called());
            CHECK(token.cancelled());
            CHECK(s.reason()->text == "shutting down");
            CHECK(creel::current_deadline() == begin + 5s);
            creel::this_fiber::sleep_for(2s); // waits go on as before
            when_cancelled([&](const creel::cancelled& c) { reason = c.reason().text; });
        }));
        CHECK(reason == "shutting down");
        CHECK(outside.now() - begin == 5s);
    });
    CHECK(left == nothing);
}

TEST_CASE("work that finishes within its grace is not absorbed") {
    run_virtually([] {
        creel::cancel_scope s;
        const auto value = s.run([&] {
            s.cancel("soon", 5s);
            creel::this_fiber::sleep_for(1s);
            return 3;
        });
        CHECK(value == 3);
        CHECK(s.cancel_called());
    });
}

TEST_CASE("within its grace a nursery spawns as before, and its children end when it has passed") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        bool in_time = false;
        bool too_long = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.cancel("soon", 5s);
            n.spawn([&] {
                creel::this_fiber::sleep_for(4s);
                in_time = true;
            });
            n.spawn([&] {
                creel::this_fiber::sleep_for(6s);
                too_long = true;
            });
        });
        CHECK(in_time);
        CHECK(!too_long);
        CHECK(outside.now() - begin == 5s);
    });
}

TEST_CASE("a later cancel shortens the grace and never lengthens it; the first reason stays") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        auto sleep = [] { creel::this_fiber::sleep_for(1h); };
        creel::cancel_scope longer;
        CHECK(!longer.run([&] {
            longer.cancel("first", 2s);
            longer.cancel("second", 10s);
            sleep();
        }));
        CHECK(longer.reason()->text == "first");
        CHECK(outside.now() - begin == 2s);
        creel::cancel_scope shorter;
        CHECK(!shorter.run([&] {
            shorter.cancel("first", 10s);
            shorter.cancel("second", 3s);
            sleep();
        }));
        CHECK(shorter.reason()->text == "first");
        CHECK(outside.now() - begin == 5s);
        creel::cancel_scope at_once;
        CHECK(!at_once.run([&] {
            at_once.cancel("first", 10s);
            at_once.cancel("second");
            sleep();
        }));
        CHECK(at_once.reason()->text == "first");
        CHECK(outside.now() - begin == 5s);
    });
}

TEST_CASE("a deadline within the grace ends it, and moving the deadline does not prolong it") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::cancel_scope s{begin + 1s};
        CHECK(!s.run([&] {
            s.cancel("soon", 5s);
            creel::this_fiber::sleep_for(1h);
        }));
        CHECK(outside.now() - begin == 1s);
        CHECK(s.reason()->text == "soon");
        creel::cancel_scope moved{begin + 2s};
        CHECK(!moved.run([&] {
            moved.cancel("soon", 5s);
            moved.set_deadline(begin + 100s);
            creel::this_fiber::sleep_for(1h);
        }));
        CHECK(outside.now() - begin == 6s);
    });
}

TEST_CASE("a grace of a scope outside reaches tokens inside it at once, and waits when it passes") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                static_cast<void>(creel::move_on_after(1h, [&] {
                    const auto mine = creel::current_token();
                    int steps = 0;
                    while (!mine.cancelled()) { // cooperative: finishes its step
                        creel::this_fiber::sleep_for(1s);
                        ++steps;
                    }
                    CHECK(steps == 3);
                    creel::this_fiber::sleep_for(1h);
                }));
            });
            creel::this_fiber::sleep_for(2500ms);
            n.cancel("soon", 5s);
        });
        CHECK(outside.now() - begin == 7500ms);
    });
}

TEST_CASE(
    "a token's grace ends the work bound to it when it has passed, also what is bound later") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        const creel::cancel_token token;
        token.cancel("soon", 5s);
        CHECK(token.run([] { return 1; }) == 1);
        CHECK(!token.run([] { creel::this_fiber::sleep_for(1h); }));
        CHECK(outside.now() - begin == 5s);
        CHECK(!token.run([] { creel::this_fiber::yield(); }));
    });
}

TEST_CASE("a token's later cancel shortens the grace of its scope") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::cancel_scope s;
        const auto token = s.token();
        outside.after(1s, [&] { token.cancel("now"); });
        CHECK(!s.run([&] {
            token.cancel("soon", 1h);
            creel::this_fiber::sleep_for(2h);
        }));
        CHECK(s.reason()->text == "soon");
        CHECK(outside.now() - begin == 1s);
    });
}

TEST_CASE("a grace given before its scope is entered counts from then") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::cancel_scope s;
        s.cancel("soon", 5s);
        outside.advance(2s);
        CHECK(!s.run([] { creel::this_fiber::sleep_for(1h); }));
        CHECK(outside.now() - begin == 5s);
    });
}

TEST_CASE("a grace works on a plain thread") {
    bool at_once = false;
    bool absorbed = false;
    std::thread{[&] {
        gate never;
        creel::cancel_scope s;
        absorbed = !s.run([&] {
            s.cancel("soon", 1ms);
            at_once = s.cancel_called();
            never.pass();
        });
    }}.join();
    CHECK(at_once);
    CHECK(absorbed);
}

TEST_CASE("a deadline that cuts a grace short ends the work, but the first reason stands") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        CHECK(outcome_of([] {
                  creel::fail_after(1s, [](creel::cancel_scope& s) {
                      s.cancel("by hand", 1h);
                      creel::this_fiber::sleep_for(2h);
                  });
              }) == "task_cancelled: cancelled: by hand");
        CHECK(outside.now() - begin == 1s);
    });
}

TEST_CASE("of two graces inside each other the shorter one counts for tokens and deadlines") {
    run_virtually([](manual_poller& outside) {
        creel::cancel_scope outer;
        outer.run([&] {
            outer.cancel("outer", 1h);
            creel::cancel_scope inner;
            inner.run([&] {
                const auto token = inner.token();
                const auto begin = outside.now();
                inner.cancel("inner", 50ms);
                creel::shield([&] {
                    static_cast<void>(token.run([&] {
                        CHECK(creel::current_deadline() == begin + 50ms);
                        creel::this_fiber::sleep_for(2h);
                    }));
                    CHECK(outside.now() == begin + 50ms);
                });
            });
        });
    });
}
