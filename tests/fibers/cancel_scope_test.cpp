#include <creel/fibers/cancel_scope.hpp>

#include "support/at_exit.hpp"
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/malloc_count.hpp"
#include "support/outcome.hpp"
#include "support/process_end.hpp"
#include "support/when_cancelled.hpp"

#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

// True if a wait throws `cancelled` now. It waits at an open gate, so nothing else can happen.
bool wait_is_cancelled() {
    gate open;
    open.open();
    return outcome_of([&] { open.pass(); }).starts_with("cancelled");
}

// A scope is cancelled after a second, and a destructor calls cleanup while the `cancelled`
// unwinds. Returns the time from beginning to end.
creel::duration unwind_through(test_body<> cleanup) {
    const auto begin = creel::now();
    CHECK(!creel::move_on_after(1s, [&] {
        const at_exit leaving{[&] { cleanup(); }};
        creel::this_fiber::sleep_for(1h);
    }));
    return creel::now() - begin;
}

// This many scopes inside each other, with a wait in the innermost.
void nest(int scopes, int& entered) {
    ++entered;
    if (scopes == 0)
        creel::this_fiber::sleep_for(1h);
    else
        static_cast<void>(creel::move_on_after(1h, [&] { nest(scopes - 1, entered); }));
}

// The innermost scope cancels one of them. Appends the numbers of the scopes that absorb.
void enter_from(std::size_t level, std::array<creel::cancel_scope, 5>& scopes,
                std::size_t cancelled, std::string& absorbed) {
    if (level == scopes.size()) {
        scopes[cancelled].cancel();
        creel::this_fiber::yield();
    } else if (!scopes[level].run([&] { enter_from(level + 1, scopes, cancelled, absorbed); })) {
        absorbed += std::to_string(level);
    }
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
            std::array<creel::cancel_scope, 5> scopes;
            std::string absorbed;
            enter_from(0, scopes, cancelled, absorbed);
            CHECK(absorbed == std::to_string(cancelled));
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
        creel::cancel_scope s;
        CHECK(!s.run([&] {
            s.cancel("enough");
            for (int i = 0; i < 3; ++i)
                CHECK(outcome_of([] { creel::this_fiber::sleep_for(1s); }) == "cancelled: enough");
            creel::this_fiber::yield();
        }));
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
                                    when_cancelled([&](const creel::cancelled& c) {
                                        ended += c.reason().cause == creel::cancel_cause::deadline;
                                    });
                                });
                        });
                    }));
                });
            });
        }));
        CHECK(ended == 3);
    });
}

TEST_CASE("a destructor that waits while unwinding is shielded from the outside") {
    run_virtually([] {
        bool cleaned = false;
        CHECK(unwind_through([&] {
                  creel::this_fiber::sleep_for(2s);
                  cleaned = true;
              }) == 3s);
        CHECK(cleaned);
    });
}

TEST_CASE("a deadline opened in a destructor while unwinding works") {
    run_virtually([] {
        bool gave_up = false;
        CHECK(unwind_through([&] {
                  gave_up = !creel::move_on_after(2s, [] { creel::this_fiber::sleep_for(1h); });
              }) == 3s);
        CHECK(gave_up);
    });
}

TEST_CASE("a deadline opened while unwinding cancels the children of a nursery inside it") {
    run_virtually([] {
        CHECK(unwind_through([] {
                  static_cast<void>(creel::move_on_after(2s, [] {
                      creel::with_nursery([](creel::nursery& n) {
                          n.spawn([] { creel::this_fiber::sleep_for(100h); });
                      });
                  }));
              }) == 3s);
    });
}

TEST_CASE("a nursery opened in a destructor while unwinding shields its children as itself, and "
          "cancels them") {
    run_virtually([] {
        bool child_slept = false;
        bool child_cancelled = false;
        CHECK(unwind_through([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      n.spawn([&] {
                          creel::this_fiber::sleep_for(1s);
                          child_slept = true;
                          when_cancelled([&] { child_cancelled = true; });
                      });
                      creel::this_fiber::sleep_for(2s);
                      n.cancel();
                  });
              }) == 3s);
        CHECK(child_slept);
        CHECK(child_cancelled);
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

TEST_CASE("1,000 nested scopes are cancelled and left") {
    run_virtually([] {
        int entered = 0;
        CHECK(!creel::move_on_after(1s, [&] { nest(1000, entered); }));
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
        CHECK(late.run([&] { outside.advance(1s); })); // code that does not wait runs on
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
    CHECK_THAT(abort_of([] {
                   creel::cancel_scope s;
                   s.run([] {});
                   s.run([] {});
               }),
               Catch::Contains("entered once"));
}

TEST_CASE("timed_out tells its scope: where it was made, its limit, its deadline and the reason") {
    run_virtually([](manual_poller& outside) {
        const auto sleep = [] { creel::this_fiber::sleep_for(24h); };
        std::optional<creel::timed_out> told; // a copy
        const auto begin = outside.now();
        const unsigned line = __LINE__ + 2;
        try {
            creel::fail_after(2s, sleep);
        } catch (const creel::timed_out& e) {
            told = e;
        }
        REQUIRE(told);
        CHECK(told->where().line() == line);
        CHECK(told->limit() == 2s);
        CHECK(told->deadline() == begin + 2s);
        CHECK(told->reason().cause == creel::cancel_cause::deadline);
        const auto deadline = outside.now() + 1s;
        try {
            creel::fail_at(deadline, sleep);
        } catch (const creel::timed_out& e) {
            told = e;
        }
        CHECK(told->where().line() > line);
        CHECK(!told->limit());
        CHECK(told->deadline() == deadline);
    });
}

TEST_CASE("task_cancelled tells which call was cut short and why") {
    const auto cancel = [](creel::cancel_scope& s) {
        s.cancel("by hand");
        creel::this_fiber::yield();
        return 1;
    };
    std::vector<std::string> told;
    unsigned line = 0;
    run_virtually([&] {
        line = __LINE__;
        const std::vector<std::function<void()>> calls{
            [&] { creel::fail_after(1h, cancel); },
            [&] { creel::shield(cancel); },
            [&] { creel::with_nursery([&](creel::nursery& n) { return cancel(n.scope()); }); },
        };
        for (const auto& call : calls)
            try {
                call();
            } catch (const creel::task_cancelled& e) {
                CHECK(e.reason().text == "by hand");
                CHECK(e.where().line() == line + 2 + told.size());
                told.emplace_back(e.what());
            }
    });
    REQUIRE(told.size() == 3);
    CHECK_THAT(told[0],
               Catch::StartsWith("cancelled: by hand (") &&
                   Catch::EndsWith("cancel_scope_test.cpp:" + std::to_string(line + 2) + ")"));
}

TEST_CASE("timed_out names the limit and the place") {
    run_virtually([](manual_poller& outside) {
        const auto sleep = [] { creel::this_fiber::sleep_for(24h); };
        const auto line = std::to_string(__LINE__ + 1);
        const std::string after = outcome_of([&] { creel::fail_after(1500ms, sleep); });
        CHECK_THAT(after, Catch::StartsWith("timed out after 1.5s ("));
        CHECK_THAT(after, Catch::EndsWith("cancel_scope_test.cpp:" + line + ")"));
        CHECK_THAT(outcome_of([&] { creel::fail_after(250us, sleep); }),
                   Catch::Contains("after 250us ("));
        CHECK_THAT(outcome_of([&] { creel::fail_after(-1ns, sleep); }),
                   Catch::Contains("after -1ns ("));
        CHECK_THAT(outcome_of([&] { creel::fail_after(1h, sleep); }),
                   Catch::Contains("after 3600s ("));
        CHECK_THAT(outcome_of([&] { creel::fail_at(outside.now() + 1s, sleep); }),
                   Catch::StartsWith("timed out at its deadline ("));
    });
}

TEST_CASE("a result whose copy throws leaves its scope once") {
    struct throws_on_second_copy {
        int* copies;
        throws_on_second_copy(int* c) : copies(c) {}
        throws_on_second_copy(const throws_on_second_copy& o) : copies(o.copies) {
            if (++*copies == 2)
                throw std::runtime_error("copy");
        }
    };
    const auto left = run_virtually([] {
        int copies = 0;
        static_cast<void>(outcome_of([&] {
            static_cast<void>(
                creel::move_on_after(1h, [&] { return throws_on_second_copy{&copies}; }));
        }));
    });
    CHECK(left == nothing);
}

TEST_CASE("a shielded scope absorbs its own cancel also under a cancelled one") {
    run_virtually([] {
        creel::cancel_scope outer;
        bool passed = false;
        CHECK(outer.run([&] {
            outer.cancel();
            creel::cancel_scope inner;
            inner.set_shielded(true);
            CHECK(!inner.run([&] {
                inner.cancel();
                creel::this_fiber::yield();
            }));
            passed = true;
        }));
        CHECK(passed);
    });
}

TEST_CASE("a void shield that absorbs its own cancel returns") {
    run_virtually([] {
        CHECK_NOTHROW(creel::shield([](creel::cancel_scope& s) {
            s.cancel();
            creel::this_fiber::yield();
        }));
        CHECK_THROWS_AS(creel::shield([](creel::cancel_scope& s) {
                            s.set_deadline(creel::now());
                            creel::this_fiber::yield();
                            return 1;
                        }),
                        creel::task_cancelled);
    });
}

TEST_CASE("calls that return a reference give a value, not a dangling reference") {
    static const std::string kept = "kept";
    auto by_reference = []() -> const std::string& { return kept; };
    run_virtually([&] {
        static_assert(
            std::is_same_v<decltype(creel::with_nursery(
                               [&](creel::nursery&) -> const std::string& { return kept; })),
                           std::string>);
        static_assert(std::is_same_v<decltype(creel::fail_after(1s, by_reference)), std::string>);
        CHECK(creel::fail_after(1s, by_reference) == "kept");
    });
}

TEST_CASE("cancel_called says nothing new once the scope was left in time") {
    run_virtually([](manual_poller& outside) {
        creel::cancel_scope s{outside.now() + 1s};
        CHECK(s.run([] {}));
        outside.advance(2s);
        CHECK(!s.cancel_called());
    });
}

TEST_CASE("current_deadline is the earliest in sight, up to the nearest shield") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        CHECK(creel::current_deadline() == creel::time_point::max());
        creel::fail_after(5s, [&] {
            CHECK(creel::current_deadline() == begin + 5s);
            creel::fail_after(10s, [&] { CHECK(creel::current_deadline() == begin + 5s); });
            creel::fail_after(2s, [&] { CHECK(creel::current_deadline() == begin + 2s); });
            creel::shield([&] {
                CHECK(creel::current_deadline() == creel::time_point::max());
                creel::fail_after(10s, [&] { CHECK(creel::current_deadline() == begin + 10s); });
            });
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { CHECK(creel::current_deadline() == begin + 5s); });
            });
        });
        creel::cancel_scope s;
        s.run([&] {
            s.cancel();
            CHECK(creel::current_deadline() == creel::time_point::min());
        });
    });
}

TEST_CASE("a deadline that has passed is final: it cannot be moved any more, noticed or not") {
    const auto left = run_virtually([](manual_poller& outside) {
        creel::cancel_scope unentered{outside.now() - 1s};
        CHECK(unentered.cancel_called());
        unentered.set_deadline(outside.now() + 1h);
        CHECK(unentered.cancel_called());
        CHECK(!unentered.run([] { creel::this_fiber::sleep_for(1ms); }));

        creel::cancel_scope s{outside.now() + 5ms};
        const auto token = s.token();
        CHECK(!s.run([&] {
            outside.advance(10ms); // no poll has seen it pass
            CHECK(token.cancelled());
            s.set_deadline(outside.now() + 1h);
            CHECK(s.cancel_called());
            CHECK(token.cancelled());
            creel::this_fiber::sleep_for(1ms);
        }));

        creel::cancel_scope moved{outside.now() + 5ms};
        CHECK(moved.run([&] {
            outside.advance(4ms);
            CHECK(!moved.cancel_called());
            moved.set_deadline(creel::time_point::max());
            CHECK(creel::statistics().timers_armed == 0);
            creel::this_fiber::sleep_for(1h);
        }));
        CHECK(!moved.cancel_called());
    });
    CHECK(left == nothing);
}

TEST_CASE("a deadline that another thread's look at the token has found passed stays passed") {
    creel::cancel_scope s{creel::now() + 1ms};
    const auto token = s.token();
    s.run([&] {
        std::thread{[&] {
            while (!token.cancelled())
                std::this_thread::yield();
        }}.join();
        s.set_deadline(creel::time_point::max());
        CHECK(s.cancel_called());
        CHECK(token.cancelled());
    });
}

TEST_CASE("set_deadline without memory throws, and the old deadline stands") {
    if (!counts_malloc)
        return;
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        bool refused = false;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 192; ++i) // the timer queue is full then
                n.spawn([i] { creel::this_fiber::sleep_until(creel::now() + 1h + i * 1ms); });
            creel::this_fiber::yield();
            CHECK(!creel::move_on_after(300ms, [&](creel::cancel_scope& s) {
                const auto before = s.deadline();
                {
                    const no_memory any;
                    try {
                        s.set_deadline(outside.now() + 100ms);
                    } catch (const std::bad_alloc&) {
                        refused = true;
                    }
                }
                CHECK(s.deadline() == before);
                creel::this_fiber::sleep_for(2s);
            }));
            CHECK(outside.now() - begin == 300ms);
            n.cancel();
        });
        CHECK(refused);
    });
    CHECK(left == nothing);
}

TEST_CASE("a scope of a nursery's body that dies while a child is inside names that child") {
    CHECK_THAT(abort_of_run([] {
                   creel::with_nursery([](creel::nursery& n) {
                       const auto local = std::make_unique<creel::cancel_scope>();
                       n.spawn({.name = "worker"},
                               [&s = *local] { s.run([] { creel::this_fiber::sleep_for(1h); }); });
                       creel::this_fiber::yield();
                   });
               }),
               Catch::Contains("a cancel_scope was destroyed while worker (#") &&
                   Catch::Contains("join() the nursery before it goes"));
}
