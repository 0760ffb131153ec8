// How a cancel spreads through nested scopes, tokens, nurseries and Boost fibers: once, and as far
// as it must. Random programs of the same are in random_program_test.cpp.
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/outcome.hpp"
#include "support/sanitizers.hpp"
#include "support/when_cancelled.hpp"

#include <creel/fibers/all.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/race.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/fiber.hpp>
#include <boost/fiber/operations.hpp>

#include <chrono>
#include <stdexcept>
#include <string>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("a token run inside its own scope cancels what is below both, and returns") {
    const auto left = run_virtually([] {
        const creel::cancel_token t;
        int cancelled = 0;
        bool inner = true;
        const bool outer = t.run([&] {
            inner = t.run([&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([&] { when_cancelled([&] { ++cancelled; }); });
                    creel::this_fiber::yield();
                    t.cancel("both");
                });
            });
        });
        CHECK(!outer); // the outermost absorbs
        CHECK(inner);  // the inner one was left by the exception
        CHECK(cancelled == 1);
    });
    CHECK(left == nothing);
}

TEST_CASE("a deadline cancels a nursery that the token of the same scope cancels as well") {
    const auto left = run_virtually([] {
        CHECK_THROWS_AS(creel::fail_after(100ms,
                                          [] {
                                              creel::current_token().run([] {
                                                  creel::all(
                                                      [] { creel::this_fiber::sleep_for(1h); },
                                                      [] { creel::this_fiber::sleep_for(1h); });
                                              });
                                          }),
                        creel::timed_out);
    });
    CHECK(left == nothing);
}

TEST_CASE("of a hundred scopes inside each other that one token cancels the outermost absorbs") {
    const auto left = run_virtually([] {
        const creel::cancel_token t;
        int deepest = 0;
        int absorbed = 0;
        const auto nest = [&](const auto& self, int depth) -> void {
            deepest = depth;
            const bool finished = t.run([&] {
                if (depth < 100)
                    self(self, depth + 1);
                else
                    creel::with_nursery([&](creel::nursery& n) {
                        n.spawn([] { creel::this_fiber::sleep_for(1h); });
                        creel::this_fiber::yield();
                        t.cancel();
                    });
            });
            absorbed += finished ? 0 : 1;
        };
        nest(nest, 1);
        CHECK(deepest == 100);
        CHECK(absorbed == 1);
    });
    CHECK(left == nothing);
}

TEST_CASE("a nursery of a Boost fiber cancels its children when one fails, and a race its losers") {
    std::string failed;
    int winner = 0;
    const auto left = run_virtually([&] {
        boost::fibers::fiber parent{[&] {
            failed = outcome_of([] {
                creel::with_nursery([](creel::nursery& n) {
                    n.spawn([] { creel::this_fiber::sleep_for(1h); });
                    n.spawn([] { throw std::runtime_error("child"); });
                });
            });
        }};
        boost::fibers::fiber racer{[&] {
            winner = creel::race([] { return 1; },
                                 [] {
                                     creel::this_fiber::sleep_for(1h);
                                     return 2;
                                 });
        }};
        parent.join();
        racer.join();
    });
    CHECK(failed == "child");
    CHECK(winner == 1);
    CHECK(left == nothing);
}

TEST_CASE(
    "a cancel of main's outermost scope reaches the children of Boost fibers, and ends there") {
    std::string outcome;
    bool own_scope = true;
    bool later = false;
    const auto left = run_virtually([&] {
        boost::fibers::fiber native;
        creel::with_nursery([&](creel::nursery& n) {
            native = boost::fibers::fiber{[&] {
                outcome = outcome_of([&] {
                    own_scope = creel::move_on_after(2h, [&] {
                        creel::with_nursery([&](creel::nursery& inner) {
                            inner.spawn([] { creel::this_fiber::sleep_for(1h); });
                        });
                    });
                });
                CHECK(creel::current_token().cancelled()); // that of main's nursery
                creel::shield([] { creel::this_fiber::sleep_for(1min); });
                creel::this_fiber::sleep_for(1s); // main's nursery has ended by now
                later = true;
            }};
            n.spawn([] { // keeps the nursery there for a while
                when_cancelled([] { creel::shield([] { creel::this_fiber::sleep_for(1s); }); });
            });
            creel::this_fiber::sleep_for(1ms);
            n.cancel("root");
        });
        native.join();
    });
    CHECK(outcome == "cancelled: root");
    CHECK(own_scope); // left by the exception: not its own cancel
    CHECK(later);
    CHECK(left == nothing);
}

TEST_CASE("Boost fibers wait under what main enters meanwhile, cancelled before or after") {
    for (const bool before : {true, false}) {
        std::string outcome;
        const auto left = run_virtually([&] {
            boost::fibers::fiber native{
                [&] { outcome = outcome_of([] { creel::this_fiber::sleep_for(1h); }); }};
            boost::this_fiber::yield();
            creel::cancel_scope s;
            if (before)
                s.cancel("main's");
            s.run([&] {
                if (!before)
                    s.cancel("main's");
                native.join();
            });
        });
        CHECK(outcome == "cancelled: main's");
        CHECK(left == nothing);
    }
}

TEST_CASE("the outermost cancelled scope absorbs, also where the inner ones were cancelled first") {
    run_virtually([] {
        creel::cancel_scope outer;
        creel::cancel_scope inner;
        bool inner_finished = true;
        const bool finished = outer.run([&] {
            inner_finished = inner.run([&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([] { creel::this_fiber::sleep_for(1h); });
                    creel::this_fiber::yield();
                    n.cancel("nursery");
                    inner.cancel("inner");
                    outer.cancel("outer");
                });
            });
        });
        CHECK(!finished);
        CHECK(inner_finished);
        CHECK(outer.reason()->text == "outer");
    });
}

// The grace of the outer scope is cut short after it has reached the inner token.
TEST_CASE("a grace that is shortened reaches the tokens of scopes inside") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::cancel_scope outer;
        outer.run([&] {
            creel::cancel_scope inner;
            inner.run([&] {
                const auto token = inner.token();
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([&] {
                        creel::shield([&] { // sees the cancel by the token alone
                            CHECK(!token.run([] { creel::this_fiber::sleep_for(1h); }));
                            CHECK(outside.now() - begin == 2s);
                        });
                    });
                    creel::this_fiber::yield();
                    outer.cancel("closing", 10min);
                    CHECK(token.cancelled());
                    outer.cancel("closing", 2s);
                });
            });
        });
    });
}

// Deep on the stack, wide in children: one walk each.
TEST_CASE("nurseries and scopes nested 2,000 deep end when they are cancelled, from either end") {
    const int depth = under_tsan ? 100 : 2000;
    for (const bool from_inside : {false, true}) {
        const auto left = run_virtually([&] {
            int ended = 0;
            const creel::cancel_token t;
            const auto level = [&](const auto& self, int below) -> void {
                creel::with_nursery([&](creel::nursery& n) {
                    creel::move_on_after(1h, [&] {
                        n.spawn([&self, below, &t, from_inside] {
                            if (below != 0)
                                self(self, below - 1);
                            else if (from_inside)
                                t.cancel();
                            creel::this_fiber::sleep_for(2h);
                        });
                        creel::this_fiber::sleep_for(2h);
                    });
                });
                ++ended;
            };
            const bool finished = t.run([&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([&] { level(level, depth); });
                    if (!from_inside) {
                        creel::this_fiber::sleep_for(1ms);
                        t.cancel();
                    }
                });
            });
            CHECK(!finished);
            CHECK(ended == 0); // all were left by the exception
        });
        CHECK(left == nothing);
    }
}
