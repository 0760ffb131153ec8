#include <creel/fibers/cancel_scope.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"

#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <catch2/catch.hpp>

#include <csignal>
#include <deque>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

// True if a wait throws `cancelled` here and now. A gate that is open, so nothing else can happen.
bool wait_is_cancelled() {
    gate open;
    open.open();
    try {
        open.pass();
    } catch (const creel::cancelled&) {
        return true;
    }
    return false;
}

} // namespace

TEST_CASE("move_on_after gives the value in time, and nothing after its deadline") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto in_time = creel::move_on_after(2s, [] {
            creel::this_fiber::sleep_for(1s);
            return 5;
        });
        CHECK(in_time == 5);
        const auto begin = outside.now();
        const auto late = creel::move_on_after(2s, [] {
            creel::this_fiber::sleep_for(1h);
            return 5;
        });
        CHECK(late == std::nullopt);
        CHECK(outside.now() - begin == 2s);
        CHECK(creel::move_on_after(1s, [] {}));
        CHECK(!creel::move_on_after(1s, [] { creel::this_fiber::sleep_for(1h); }));
    });
    CHECK(left == nothing);
}

TEST_CASE("fail_after throws timed_out when its own deadline absorbed the work") {
    run_virtually([] {
        CHECK(creel::fail_after(2s, [] { return 5; }) == 5);
        CHECK_THROWS_AS(creel::fail_after(2s, [] { creel::this_fiber::sleep_for(1h); }),
                        creel::timed_out);
        CHECK_THROWS_AS(creel::fail_after(2s,
                                          [](creel::cancel_scope& s) {
                                              s.cancel("by hand");
                                              creel::this_fiber::yield();
                                          }),
                        creel::task_cancelled);
    });
}

TEST_CASE("a deadline that has passed before entry cancels the first wait, but the body starts") {
    run_virtually([](manual_poller& outside) {
        bool started = false;
        bool passed_wait = false;
        for (const creel::duration d : {creel::duration{0}, creel::duration{-1s}}) {
            started = passed_wait = false;
            CHECK(!creel::move_on_after(d, [&] {
                started = true;
                creel::this_fiber::yield();
                passed_wait = true;
            }));
            CHECK(started);
            CHECK(!passed_wait);
        }
        CHECK(!creel::move_on_at(outside.now(), [] { creel::this_fiber::yield(); }));
        CHECK(creel::move_on_at(outside.now(), [] {})); // no wait, nothing to cancel
    });
}

TEST_CASE("durations without end do not overflow") {
    run_virtually([] {
        CHECK(creel::move_on_after(creel::duration::max(), [] { return 1; }) == 1);
        CHECK(creel::move_on_after(creel::duration::min(), [] { return 1; }) == 1);
    });
}

TEST_CASE("a scope cancelled before it is entered cancels the first wait") {
    run_virtually([] {
        creel::cancel_scope s;
        s.cancel("early");
        bool started = false;
        CHECK(!s.run([&] {
            started = true;
            creel::this_fiber::yield();
        }));
        CHECK(started);
        CHECK(s.reason()->text == "early");
    });
}

TEST_CASE("of nested deadlines the earlier one counts, whichever is outside") {
    run_virtually([](manual_poller& outside) {
        auto sleep = [] { creel::this_fiber::sleep_for(1h); };
        const auto begin = outside.now();
        bool inner_absorbed = false;
        CHECK(
            !creel::move_on_after(1s, [&] { inner_absorbed = !creel::move_on_after(2s, sleep); }));
        CHECK(!inner_absorbed); // the outer one did
        CHECK(outside.now() - begin == 1s);
        CHECK(creel::move_on_after(2s, [&] { inner_absorbed = !creel::move_on_after(1s, sleep); }));
        CHECK(inner_absorbed);
        CHECK(outside.now() - begin == 2s);
    });
}

TEST_CASE("equal nested deadlines are absorbed by the outer scope") {
    run_virtually([](manual_poller& outside) {
        const auto deadline = outside.now() + 1s;
        bool inner_returned = false;
        CHECK(!creel::move_on_at(deadline, [&] {
            static_cast<void>(
                creel::move_on_at(deadline, [] { creel::this_fiber::sleep_for(1h); }));
            inner_returned = true;
        }));
        CHECK(!inner_returned);
    });
}

TEST_CASE("a cancel is absorbed by the right scope of five") {
    for (std::size_t cancelled = 0; cancelled < 5; ++cancelled)
        run_virtually([cancelled] {
            std::deque<creel::cancel_scope> scopes(5);
            std::string absorbed;
            std::function<void(std::size_t)> enter = [&](std::size_t level) {
                if (level == 5) {
                    scopes[cancelled].cancel();
                    creel::this_fiber::yield();
                    return;
                }
                if (!scopes[level].run([&] { enter(level + 1); }))
                    absorbed += static_cast<char>('0' + level);
            };
            enter(0);
            CHECK(absorbed == std::string(1, static_cast<char>('0' + cancelled)));
        });
}

TEST_CASE("a deadline can be moved while a fiber waits under it, both ways") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::with_nursery([&](creel::nursery& n) {
            creel::cancel_scope later{begin + 2s};
            creel::cancel_scope earlier{begin + 10s};
            n.spawn([&] {
                creel::this_fiber::sleep_for(1s);
                later.set_deadline(begin + 5s);
                earlier.set_deadline(begin + 3s);
            });
            CHECK(!later.run([&] {
                CHECK(!earlier.run([] { creel::this_fiber::sleep_for(1h); }));
                CHECK(outside.now() == begin + 3s);
                creel::this_fiber::sleep_for(1h);
            }));
            CHECK(outside.now() == begin + 5s);
        });
    });
}

TEST_CASE("cancels are level-triggered: swallowed once, the next wait throws again") {
    run_virtually([] {
        int thrown = 0;
        creel::cancel_scope s;
        CHECK(!s.run([&] {
            s.cancel();
            for (int i = 0; i < 3; ++i) {
                try {
                    creel::this_fiber::sleep_for(1s);
                } catch (const creel::cancelled&) {
                    ++thrown;
                }
            }
            creel::this_fiber::yield();
        }));
        CHECK(thrown == 3);
    });
}

TEST_CASE("a wait that need not wait is a cancellation point too") {
    run_virtually([] {
        creel::cancel_scope s;
        s.run([&] {
            CHECK(!wait_is_cancelled());
            s.cancel();
            CHECK(wait_is_cancelled());
        });
    });
}

TEST_CASE("`cancelled` passes through catch (const std::exception&)") {
    run_virtually([] {
        bool swallowed = false;
        CHECK(!creel::move_on_after(1s, [&] {
            try {
                creel::this_fiber::sleep_for(1h);
            } catch (const std::exception&) {
                swallowed = true;
            }
        }));
        CHECK(!swallowed);
    });
}

TEST_CASE("a shield hides the cancel outside, but not its own deadline") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::cancel_scope s;
        bool own_deadline = false;
        CHECK(!s.run([&] {
            s.cancel();
            const int value = creel::shield([&] {
                creel::this_fiber::sleep_for(1s);
                own_deadline = !creel::move_on_after(2s, [] { creel::this_fiber::sleep_for(1h); });
                return 3;
            });
            CHECK(value == 3); // checks nothing on exit: the value is not lost
            creel::this_fiber::yield();
        }));
        CHECK(own_deadline);
        CHECK(outside.now() - begin == 3s);
    });
}

TEST_CASE("a shield lowered while a fiber waits behind it lets the cancel in, one raised in time "
          "keeps it out") {
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            creel::cancel_scope outer;
            creel::cancel_scope inner;
            inner.set_shielded(true);
            n.spawn([&] {
                creel::this_fiber::sleep_for(1s);
                outer.cancel();
                creel::this_fiber::sleep_for(1s);
                inner.set_shielded(false);
            });
            const auto begin = creel::now();
            CHECK(!outer.run([&] { inner.run([] { creel::this_fiber::sleep_for(1h); }); }));
            CHECK(creel::now() - begin == 2s);
        });
        creel::cancel_scope outer;
        creel::cancel_scope inner;
        CHECK(outer.run([&] {
            inner.run([&] {
                inner.set_shielded(true);
                outer.cancel();
                CHECK(!wait_is_cancelled());
                inner.set_shielded(false);
                CHECK(wait_is_cancelled());
                inner.set_shielded(true);
                CHECK(!wait_is_cancelled());
            });
        }));
    });
}

TEST_CASE("a child lives in its nursery's scope, not in the inner one it was spawned from") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::duration slept{};
        creel::with_nursery([&](creel::nursery& n) {
            CHECK(!creel::move_on_after(1s, [&] {
                n.spawn([&] {
                    creel::this_fiber::sleep_for(5s);
                    slept = outside.now() - begin;
                });
                creel::this_fiber::sleep_for(1h);
            }));
        });
        CHECK(slept == 5s);
    });
}

TEST_CASE("a cancel reaches fibers through nurseries and scopes below it") {
    run_virtually([] {
        int ended = 0;
        CHECK(!creel::move_on_after(1s, [&] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    static_cast<void>(creel::move_on_after(1h, [&] {
                        creel::with_nursery([&](creel::nursery& inner) {
                            for (int i = 0; i < 3; ++i)
                                inner.spawn([&] {
                                    try {
                                        creel::this_fiber::sleep_for(2h);
                                    } catch (const creel::cancelled& c) {
                                        ended += c.reason().cause == creel::cancel_cause::deadline;
                                        throw;
                                    }
                                });
                        });
                    }));
                });
            });
        }));
        CHECK(ended == 3);
    });
}

// ---- the destructor rule ------------------------------------------------------------------------

namespace {
template <typename F>
struct at_exit {
    F f;
    ~at_exit() { f(); }
};
template <typename F>
at_exit(F) -> at_exit<F>;
} // namespace

TEST_CASE("a destructor that waits while unwinding is shielded from the outside") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        bool cleaned = false;
        CHECK(!creel::move_on_after(1s, [&] {
            const at_exit cleanup{[&] {
                creel::this_fiber::sleep_for(2s);
                cleaned = true;
            }};
            creel::this_fiber::sleep_for(1h);
        }));
        CHECK(cleaned);
        CHECK(outside.now() - begin == 3s);
    });
}

TEST_CASE("a deadline opened in a destructor while unwinding works") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        bool gave_up = false;
        CHECK(!creel::move_on_after(1s, [&] {
            const at_exit cleanup{[&] {
                gave_up = !creel::move_on_after(2s, [] { creel::this_fiber::sleep_for(1h); });
            }};
            creel::this_fiber::sleep_for(1h);
        }));
        CHECK(gave_up);
        CHECK(outside.now() - begin == 3s);
    });
}

TEST_CASE("a nursery opened in a destructor while unwinding shields its children as itself, and "
          "cancels them") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        bool child_slept = false;
        bool child_cancelled = false;
        CHECK(!creel::move_on_after(1s, [&] {
            const at_exit cleanup{[&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([&] {
                        creel::this_fiber::sleep_for(1s);
                        child_slept = true;
                        try {
                            creel::this_fiber::sleep_for(1h);
                        } catch (const creel::cancelled&) {
                            child_cancelled = true;
                            throw;
                        }
                    });
                    creel::this_fiber::sleep_for(2s);
                    n.cancel();
                });
            }};
            creel::this_fiber::sleep_for(1h);
        }));
        CHECK(child_slept);
        CHECK(child_cancelled);
        CHECK(outside.now() - begin == 3s);
    });
}

TEST_CASE("a cancel that comes while a destructor waits does not end that wait") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                try {
                    const at_exit cleanup{[] { creel::this_fiber::sleep_for(5s); }};
                    throw 1;
                } catch (int) {
                }
                CHECK(outside.now() - begin == 5s);
            });
            creel::this_fiber::sleep_for(1s);
            n.cancel();
        });
    });
}

// ---- success beats cancel -----------------------------------------------------------------------

TEST_CASE("a waiter woken and then cancelled in the same round has its success") {
    run_virtually([](manual_poller& outside) {
        gate g;
        bool passed = false;
        creel::cancel_scope s;
        outside.next_poll([&] {
            g.let_one_pass();
            s.cancel();
        });
        CHECK(s.run([&] {
            g.pass();
            passed = true;
        }));
        CHECK(passed);
    });
}

TEST_CASE("a waiter cancelled and then woken in the same round was withdrawn: the wake goes to the "
          "next") {
    run_virtually([](manual_poller& outside) {
        gate g;
        std::string passed;
        creel::cancel_scope s;
        outside.next_poll([&] {
            s.cancel();
            g.let_one_pass();
        });
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                s.run([&] {
                    g.pass();
                    passed += "first";
                });
            });
            n.spawn([&] {
                g.pass();
                passed += "second";
            });
        });
        CHECK(passed == "second");
    });
}

TEST_CASE("1,000 nested scopes are cancelled and left") {
    run_virtually([] {
        int entered = 0;
        std::function<void(int)> enter = [&](int left) {
            ++entered;
            if (left == 0)
                creel::this_fiber::sleep_for(1h);
            else
                static_cast<void>(creel::move_on_after(1h, [&] { enter(left - 1); }));
        };
        CHECK(!creel::move_on_after(1s, [&] { enter(1000); }));
        CHECK(entered == 1001);
    });
}

TEST_CASE("scopes with deadlines work on a plain thread") {
    bool timed_out = false;
    bool own_timer = false;
    std::thread{[&] {
        gate never;
        timed_out = !creel::move_on_after(1ms, [&] { never.pass(); });
        own_timer = !never.pass_until(creel::now() + 1ms);
    }}.join();
    CHECK(timed_out);
    CHECK(own_timer);
}

TEST_CASE("cancel_called is true once the deadline has passed, noticed or not") {
    run_virtually([](manual_poller& outside) {
        creel::cancel_scope s{outside.now() + 1s};
        s.run([&] {
            CHECK(!s.cancel_called());
            outside.advance(1s);
            CHECK(s.cancel_called());
        });
    });
}

TEST_CASE("a deadline that passed unnoticed is told of after its scope was left, a later one not") {
    run_virtually([](manual_poller& outside) {
        creel::cancel_scope late{outside.now() + 1s};
        creel::cancel_scope in_time{outside.now() + 2s};
        const auto late_token = late.token();
        const auto in_time_token = in_time.token();
        CHECK(late.run([&] { outside.advance(1s); })); // what does not wait runs on
        in_time.run([] {});
        outside.advance(5s);
        CHECK(late.cancel_called());
        CHECK(late_token.cancelled());
        REQUIRE(late.reason() != nullptr);
        CHECK(late.reason()->cause == creel::cancel_cause::deadline);
        CHECK(!in_time.cancel_called());
        CHECK(!in_time_token.cancelled());
        CHECK(in_time.reason() == nullptr);
    });
}

TEST_CASE("a scope entered twice is a clear error") {
    const auto outcome = run_in_child([] {
        creel::cancel_scope s;
        s.run([] {});
        s.run([] {});
    });
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("entered once") != std::string::npos);
}

TEST_CASE("timed_out names the limit and the place") {
    run_virtually([](manual_poller& outside) {
        const auto text_of = [](auto f) {
            try {
                f();
            } catch (const creel::timed_out& e) {
                return std::string{e.what()};
            }
            return std::string{};
        };
        const auto sleep = [] { creel::this_fiber::sleep_for(24h); };
        const auto line = std::to_string(__LINE__ + 1);
        const auto after = text_of([&] { creel::fail_after(1500ms, sleep); });
        CHECK(after.find("timed out after 1.5s (") == 0);
        CHECK(after.find("cancel_scope_test.cpp:" + line + ")") != std::string::npos);
        CHECK(text_of([&] { creel::fail_after(250us, sleep); }).find("after 250us (") !=
              std::string::npos);
        CHECK(text_of([&] { creel::fail_after(-1ns, sleep); }).find("after -1ns (") !=
              std::string::npos);
        CHECK(text_of([&] { creel::fail_after(1h, sleep); }).find("after 3600s (") !=
              std::string::npos);
        const auto at = text_of([&] { creel::fail_at(outside.now() + 1s, sleep); });
        CHECK(at.find("timed out at its deadline (") == 0);
    });
}
