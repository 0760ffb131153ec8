#include <creel/fibers/started.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/outcome.hpp"
#include "support/process_end.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <chrono>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("start returns what its child sets and the child goes on in the nursery") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        bool ended = false;
        creel::with_nursery([&](creel::nursery& n) {
            auto address =
                n.start<std::unique_ptr<int>>([&](creel::started<std::unique_ptr<int>>& ready) {
                    creel::this_fiber::sleep_for(1s);
                    ready.set(std::make_unique<int>(80));
                    creel::this_fiber::sleep_for(1s);
                    ended = true;
                });
            CHECK(*address == 80);
            CHECK(outside.now() - begin == 1s);
            CHECK(n.children() == 1);
            CHECK(!ended);
        });
        CHECK(ended);
        CHECK(outside.now() - begin == 2s);
    });
    CHECK(left == nothing);
}

TEST_CASE("start without a value waits for set") {
    run_virtually([] {
        std::string order;
        creel::with_nursery([&](creel::nursery& n) {
            n.start({.name = "server"}, [&](creel::started<void>& ready) {
                order += creel::this_fiber::name();
                ready.set();
                creel::this_fiber::yield();
                order += " end";
            });
            order += " started";
        });
        CHECK(order == "server started end");
    });
}

TEST_CASE("an error before set is thrown by start and does not touch the nursery") {
    const auto left = run_virtually([] {
        for (const auto& policy : {creel::error_policy{}, creel::collect(), creel::report()})
            creel::with_nursery({.on_error = policy}, [](creel::nursery& n) {
                bool sibling_ended = false;
                n.spawn([&] {
                    creel::this_fiber::sleep_for(2s);
                    sibling_ended = true;
                });
                CHECK(outcome_of([&] {
                          static_cast<void>(n.start<int>([](creel::started<int>&) {
                              creel::this_fiber::sleep_for(1s);
                              throw std::runtime_error("no port");
                          }));
                      }) == "no port");
                creel::this_fiber::sleep_for(2s);
                CHECK(sibling_ended);
            });
    });
    CHECK(left == nothing);
}

TEST_CASE("an error after set goes to the nursery") {
    run_virtually([] {
        int value = 0;
        CHECK(outcome_of([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      value = n.start<int>([](creel::started<int>& ready) {
                          ready.set(1);
                          creel::this_fiber::sleep_for(1s);
                          throw std::runtime_error("later");
                      });
                      creel::this_fiber::sleep_for(1h);
                  });
              }) == "later");
        CHECK(value == 1);
    });
}

TEST_CASE("an error right after set with no wait between goes to the nursery") {
    run_virtually([] {
        int value = 0;
        CHECK(outcome_of([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      value = n.start<int>([](creel::started<int>& ready) {
                          ready.set(1);
                          throw std::runtime_error("at once");
                      });
                  });
              }) == "at once");
        CHECK(value == 1);
    });
}

TEST_CASE("a child of start that ends without set is a logic_error") {
    const auto left = run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            bool was_logic_error = false;
            try {
                n.start([](creel::started<void>&) {});
            } catch (const std::logic_error&) {
                was_logic_error = true;
            }
            CHECK(was_logic_error);
            CHECK(n.children() == 0);
        });
    });
    CHECK(left == nothing);
}

TEST_CASE("a second set ends the process with a reason") {
    for (const bool after_start : {false, true}) {
        const std::string message = abort_of_run([&] {
            creel::with_nursery([&](creel::nursery& n) {
                static_cast<void>(n.start<int>([&](creel::started<int>& ready) {
                    ready.set(1);
                    if (after_start)
                        creel::this_fiber::sleep_for(1s);
                    ready.set(2);
                }));
            });
        });
        CHECK_THAT(message, Catch::Contains("called twice"));
    }
}

TEST_CASE("cancelling the caller of start before set cancels the child") {
    const auto left = run_virtually([] {
        std::string child;
        creel::with_nursery([&](creel::nursery& n) {
            const bool started = creel::move_on_after(1s, [&] {
                n.start([&](creel::started<void>& ready) {
                    child = outcome_of([] { creel::this_fiber::sleep_for(1h); });
                    creel::check_cancel_only();
                    ready.set();
                });
            });
            CHECK(!started);
            CHECK(n.children() == 0);
        });
        CHECK(child == "cancelled: the deadline has passed");
    });
    CHECK(left == nothing);
}

TEST_CASE("a caller of start that is cancelled before the child has run throws cancelled") {
    const auto left = run_virtually([](manual_poller& outside) {
        bool ran = false;
        creel::with_nursery([&](creel::nursery& n) {
            creel::cancel_scope s;
            n.spawn([&] { s.cancel(); }); // runs before the child of start
            CHECK(!s.run([&] { n.start([&](creel::started<void>&) { ran = true; }); }));
            creel::cancel_scope early;
            early.cancel();
            CHECK(!early.run([&] { n.start([&](creel::started<void>&) { ran = true; }); }));
        });
        CHECK(!ran);
        static_cast<void>(outside);
    });
    CHECK(left == nothing);
}

TEST_CASE("set when the caller is already cancelled returns quietly and the child ends under him") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        std::string child;
        creel::with_nursery([&](creel::nursery& n) {
            const auto value = creel::move_on_after(1s, [&] {
                return n.start<int>([&](creel::started<int>& ready) {
                    creel::shield([] { creel::this_fiber::sleep_for(2s); });
                    ready.set(5);
                    CHECK(n.children() == 0); // not taken over
                    child = outcome_of([] { creel::this_fiber::sleep_for(1h); });
                    creel::this_fiber::yield(); // throws again
                });
            });
            CHECK(!value);
            CHECK(outside.now() - begin == 2s);
        });
        CHECK(child == "cancelled: the deadline has passed");
    });
    CHECK(left == nothing);
}

TEST_CASE("a child that ends quietly after set in a cancelled caller still gives its value") {
    run_virtually([] {
        creel::with_nursery([&](creel::nursery& n) {
            const auto value = creel::move_on_after(1s, [&] {
                return n.start<int>([&](creel::started<int>& ready) {
                    creel::shield([] { creel::this_fiber::sleep_for(2s); });
                    ready.set(5);
                });
            });
            CHECK(value == 5); // success beats the cancel
        });
    });
}

TEST_CASE(
    "a real error of a child whose caller is cancelled is thrown by start, before set and after") {
    const auto left = run_virtually([] {
        for (const bool set_first : {false, true}) {
            creel::with_nursery([&](creel::nursery& n) {
                std::string thrown;
                const auto value = creel::move_on_after(1s, [&] {
                    int got = 0;
                    thrown = outcome_of([&] {
                        got = n.start<int>([&](creel::started<int>& ready) {
                            creel::shield([] { creel::this_fiber::sleep_for(2s); });
                            if (set_first)
                                ready.set(5); // quietly: the child stays here
                            throw std::runtime_error("no port");
                        });
                    });
                    return got;
                });
                CHECK(thrown == "no port");
                CHECK(value == 0);
                CHECK(n.children() == 0);
            }); // and the nursery knows of no error
        }
    });
    CHECK(left == nothing);
}

TEST_CASE("cancelling the caller of start after set does not touch the child") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        bool ended = false;
        creel::with_nursery([&](creel::nursery& n) {
            creel::cancel_scope s;
            s.run([&] {
                n.start([&](creel::started<void>& ready) {
                    ready.set();
                    creel::this_fiber::sleep_for(3s);
                    ended = true;
                });
                s.cancel();
                creel::this_fiber::sleep_for(1h);
            });
            CHECK(outside.now() == begin);
        });
        CHECK(ended);
    });
}

TEST_CASE("set moves all scopes and nurseries below the child") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        std::vector<std::string> ended;
        creel::with_nursery([&](creel::nursery& n) {
            creel::cancel_scope caller;
            caller.run([&] {
                n.start([&](creel::started<void>& ready) {
                    static_cast<void>(creel::move_on_after(100h, [&] {
                        creel::with_nursery([&](creel::nursery& inner) {
                            inner.spawn([&] {
                                ended.push_back(
                                    outcome_of([] { creel::this_fiber::sleep_for(1h); }));
                                creel::this_fiber::yield();
                            });
                            inner.spawn([&] {
                                creel::cancel_scope deep;
                                deep.run([&] {
                                    ready.set(); // by a grandchild, in a scope of its own
                                    ended.push_back(
                                        outcome_of([] { creel::this_fiber::sleep_for(2h); }));
                                    creel::this_fiber::yield();
                                });
                            });
                        });
                    }));
                });
                caller.cancel("the caller"); // reaches none of them
                CHECK(ended.empty());
            });
            creel::this_fiber::yield();
            CHECK(ended.empty());
            n.cancel("the nursery"); // reaches all of them
        });
        CHECK(ended == std::vector<std::string>(2, "cancelled: the nursery"));
        CHECK(outside.now() == begin);
    });
    CHECK(left == nothing);
}

TEST_CASE("set into a nursery that was cancelled meanwhile cancels the child there") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::with_nursery([&](creel::nursery& outer) {
            gate entered;
            creel::nursery* target = nullptr;
            gate done;
            outer.spawn([&] {
                creel::with_nursery([&](creel::nursery& n) {
                    target = &n;
                    entered.open();
                    creel::shield([&] { done.pass(); });
                });
            });
            entered.pass();
            std::string sleeper;
            std::string child;
            const int value = target->start<int>([&](creel::started<int>& ready) {
                creel::with_nursery([&](creel::nursery& inner) {
                    inner.spawn([&] {
                        sleeper = outcome_of([] { creel::this_fiber::sleep_for(1h); });
                        creel::check_cancel_only();
                    });
                    creel::this_fiber::yield();
                    target->cancel("gone");
                    creel::this_fiber::yield(); // the child is not below the target yet
                    CHECK(sleeper.empty());
                    ready.set(3); // and now it is: the sleeper is interrupted
                    child = outcome_of([] { creel::this_fiber::sleep_for(1h); });
                    creel::check_cancel_only();
                });
            });
            CHECK(value == 3);
            creel::this_fiber::yield();
            creel::this_fiber::yield();
            CHECK(sleeper == "cancelled: gone");
            CHECK(child == "cancelled: gone");
            done.open();
        });
        CHECK(outside.now() == begin);
    });
}

namespace {

// A service that is written for start().
void serve_once(creel::started<std::string>& ready) {
    ready.set("served");
}

} // namespace

TEST_CASE("a service is called with a started of the caller's own, on a fiber and on a thread") {
    const auto call = [] {
        creel::started<std::string> ready;
        CHECK(!ready.is_set());
        CHECK(!ready.value());
        serve_once(ready);
        CHECK(ready.is_set());
        return std::string{ready.value().value_or("nothing")};
    };
    std::string here = call();
    CHECK(here == "served");
    run_virtually([&] { here += call(); });
    CHECK(here == "servedserved");
    creel::started<void> plain;
    CHECK(!plain.is_set());
    plain.set();
    CHECK(plain.is_set());
}

TEST_CASE("start takes the value out of its child's started") {
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            CHECK(n.start<std::string>([](creel::started<std::string>& ready) {
                serve_once(ready);
                CHECK(ready.is_set());
                CHECK(!ready.value());
            }) == "served");
        });
    });
}

TEST_CASE("a second set of a caller's own started ends the process with a reason") {
    CHECK_THAT(abort_of([] {
                   creel::started<std::string> ready;
                   serve_once(ready);
                   serve_once(ready);
               }),
               Catch::Contains("called twice"));
}

TEST_CASE("start into a cancelled nursery runs nothing and throws task_cancelled") {
    const auto left = run_virtually([] {
        bool ran = false;
        const auto owned = std::make_shared<int>(1);
        creel::with_nursery([&](creel::nursery& n) {
            n.cancel("closed for today");
            CHECK(outcome_of([&] {
                      creel::shield(
                          [&] { n.start([&ran, owned](creel::started<void>&) { ran = true; }); });
                  }) == "task_cancelled: cancelled: closed for today");
            // A fiber in the cancelled scope learns of the cancel first, as at every wait.
            CHECK(outcome_of([&] {
                      n.start([&ran, owned](creel::started<void>&) { ran = true; });
                  }) == "cancelled: closed for today");
        });
        CHECK(!ran);
        CHECK(owned.use_count() == 1);
    });
    CHECK(left == nothing);
}

TEST_CASE("a pending start keeps the nursery open and counts among max_children") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::with_nursery([&](creel::nursery& outer) {
            creel::nursery* target = nullptr;
            creel::duration closed_after{};
            bool spawned = false;
            outer.spawn([&] {
                creel::with_nursery({.max_children = 1}, [&](creel::nursery& n) {
                    target = &n;
                    creel::this_fiber::yield();
                });
                closed_after = outside.now() - begin;
            });
            creel::this_fiber::yield();
            const auto ready_after =
                target->start<creel::duration>([&](creel::started<creel::duration>& ready) {
                    const bool room =
                        creel::move_on_after(1s, [&] { target->spawn([&] { spawned = true; }); });
                    CHECK(!room);
                    creel::this_fiber::sleep_for(1s);
                    ready.set(outside.now() - begin);
                    creel::this_fiber::sleep_for(1s);
                });
            CHECK(ready_after == 2s);
            creel::this_fiber::sleep_for(1s);
            creel::this_fiber::yield();
            CHECK(closed_after == 3s);
            CHECK(!spawned);
        });
    });
}

TEST_CASE("a value that cannot be moved in is not set") {
    struct bad {
        bad() = default;
        bad(bad&&) { throw std::runtime_error("no move"); }
    };
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            CHECK(outcome_of([&] {
                      static_cast<void>(
                          n.start<bad>([](creel::started<bad>& ready) { ready.set(bad{}); }));
                  }) == "no move");
        });
    });
}

TEST_CASE("a token that a child of start takes before set() goes on with it to the nursery") {
    run_virtually([](manual_poller& outside) {
        for (const bool before : {true, false}) {
            const auto begin = outside.now();
            creel::with_nursery([&](creel::nursery& n) {
                n.start([&](creel::started<void>& ready) {
                    std::optional<creel::cancel_token> stop;
                    if (before)
                        stop = creel::current_token();
                    ready.set();
                    if (!before)
                        stop = creel::current_token();
                    while (!stop->cancelled())
                        creel::this_fiber::sleep_for(1ms);
                });
                creel::this_fiber::sleep_for(5ms);
                n.cancel("shutting down", 1s);
            });
            CHECK(outside.now() - begin <= 6ms);
        }
    });
}

TEST_CASE("the token of a child of start cancels that child alone, before and after set()") {
    run_virtually([] {
        bool sibling_cancelled = false;
        bool went_on = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                try {
                    creel::this_fiber::sleep_for(1s);
                } catch (const creel::cancelled&) {
                    sibling_cancelled = true;
                    throw;
                }
            });
            auto stop =
                n.start<creel::cancel_token>([&](creel::started<creel::cancel_token>& ready) {
                    ready.set(creel::current_token());
                    creel::this_fiber::sleep_for(1h);
                    went_on = true;
                });
            stop.cancel();
            CHECK(!n.scope().cancel_called());
            CHECK_THROWS_AS(n.start([&](creel::started<void>&) {
                creel::current_token().cancel();
                creel::this_fiber::sleep_for(1h);
            }),
                            std::logic_error);
        });
        CHECK(!sibling_cancelled);
        CHECK(!went_on);
    });
}
