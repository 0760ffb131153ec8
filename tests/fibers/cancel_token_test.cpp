#include <creel/fibers/cancel_token.hpp>

#include "support/bare_waiter.hpp"
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/outcome.hpp"
#include "support/process_end.hpp"
#include "support/sanitizers.hpp"
#include "support/when_cancelled.hpp"

#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

constexpr auto with_others = manual_poller::other_threads::yes;

// One thread tells another to go on. Spins, so that no futex gets in between.
class flag {
public:
    void raise() { raised_.store(true); }
    void await() const {
        while (!raised_.load())
            std::this_thread::yield();
    }

private:
    std::atomic<bool> raised_{false};
};

} // namespace

TEST_CASE("a token cancels the scope it was taken from, with its reason") {
    const auto left = run_virtually([] {
        creel::cancel_scope s;
        const auto token = s.token();
        std::string reason;
        CHECK(!token.cancelled());
        CHECK(!s.run([&] {
            CHECK(token == s.token());
            token.cancel("enough");
            token.cancel("again");
            reason = outcome_of([] { creel::this_fiber::sleep_for(1h); });
            creel::this_fiber::yield();
        }));
        CHECK(reason == "cancelled: enough");
        CHECK(token.cancelled());
        CHECK(s.cancel_called());
    });
    CHECK(left == nothing);
}

TEST_CASE("a token outlives its scope and goes on cancelling what is bound to it") {
    run_virtually([] {
        std::optional<creel::cancel_token> token;
        {
            creel::cancel_scope s;
            CHECK(s.run([&] { token = s.token(); }));
        }
        CHECK(!token->cancelled());
        CHECK(token->run([] { creel::this_fiber::yield(); }));
        token->cancel();
        CHECK(token->cancelled());
        CHECK(!token->run([] { creel::this_fiber::yield(); }));
    });
}

TEST_CASE("a token of no scope cancels all that is bound to it and gives their values before") {
    run_virtually([](manual_poller& outside) {
        const creel::cancel_token token;
        CHECK(token.run([] { return 5; }) == 5);
        int ended = 0;
        const auto begin = outside.now();
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 10; ++i)
                n.spawn([&] {
                    const auto value = token.run([] {
                        creel::this_fiber::sleep_for(1h);
                        return 1;
                    });
                    ended += !value;
                });
            creel::this_fiber::sleep_for(1s);
            token.cancel();
        });
        CHECK(ended == 10);
        CHECK(outside.now() - begin == 1s);
    });
}

TEST_CASE("a token cancelled before its scope is entered cancels the first wait") {
    run_virtually([] {
        creel::cancel_scope s;
        const auto token = s.token();
        token.cancel("early");
        bool started = false;
        CHECK(!s.run([&] {
            started = true;
            creel::this_fiber::yield();
        }));
        CHECK(started);
        CHECK(s.reason()->text == "early");
    });
}

TEST_CASE("a scope that is never entered may be asked for a token") {
    std::optional<creel::cancel_token> token;
    {
        creel::cancel_scope s;
        token = s.token();
        s.cancel("by hand");
        CHECK(token->cancelled());
    }
    token->cancel();
    CHECK(token->cancelled());
}

TEST_CASE("a token is cancelled with its scope: by hand, by its deadline, and from outside") {
    run_virtually([](manual_poller& outside) {
        creel::cancel_scope by_hand;
        by_hand.run([&] {
            const auto token = creel::current_token();
            by_hand.cancel();
            CHECK(token.cancelled());
        });
        creel::cancel_scope deadline{outside.now() + 1s};
        deadline.run([&] {
            const auto token = creel::current_token();
            CHECK(!token.cancelled());
            outside.advance(1s); // the scheduler has not polled
            CHECK(token.cancelled());
        });
        creel::cancel_scope outer;
        outer.run([&] {
            creel::cancel_scope inner;
            inner.run([&] {
                const auto token = creel::current_token();
                outer.cancel();
                CHECK(token.cancelled());
                CHECK(!inner.cancel_called()); // that is about the scope itself
            });
        });
    });
}

TEST_CASE("a token of a scope that is cancelled already says so at once") {
    run_virtually([] {
        creel::cancel_scope s;
        s.run([&] {
            s.cancel();
            CHECK(s.token().cancelled());
            creel::cancel_scope inside;
            inside.run([&] { CHECK(creel::current_token().cancelled()); });
        });
    });
}

TEST_CASE("a token behind a shield does not hear of the cancel outside") {
    run_virtually([] {
        creel::cancel_scope outer;
        outer.run([&] {
            creel::shield([&] {
                const auto token = creel::current_token();
                outer.cancel();
                CHECK(!token.cancelled());
            });
        });
    });
}

TEST_CASE("a deadline that passes after its scope was left does not cancel the token") {
    run_virtually([](manual_poller& outside) {
        creel::cancel_scope s{outside.now() + 1s};
        const auto token = s.token();
        CHECK(s.run([] {}));
        outside.advance(2s);
        CHECK(!token.cancelled());
    });
}

TEST_CASE("current_token is the nursery's in a child, and nobody's outside any scope") {
    run_virtually([] {
        CHECK(!creel::current_token().cancelled());
        bool ended = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { CHECK(creel::current_token() == n.token()); });
            n.spawn([&] { creel::current_token().cancel("from a child"); });
            n.spawn([&] {
                CHECK(outcome_of([] { creel::this_fiber::sleep_for(1h); }) ==
                      "cancelled: from a child");
                ended = true;
            });
        });
        CHECK(!ended); // cancelled before it started
    });
}

TEST_CASE("a nursery's token ends the group with no error") {
    run_virtually([](manual_poller& outside) {
        int ended = 0;
        std::optional<creel::cancel_token> token;
        outside.after(1s, [&] { token->cancel(); });
        creel::with_nursery([&](creel::nursery& n) {
            token = n.token();
            for (int i = 0; i < 3; ++i)
                n.spawn([&] {
                    CHECK(outcome_of([] { creel::this_fiber::sleep_for(1h); }) == "cancelled: ");
                    ++ended;
                });
        });
        CHECK(ended == 3);
    });
}

TEST_CASE("tokens bound in a ring cancel each other and end") {
    run_virtually([] {
        creel::cancel_scope a;
        creel::cancel_scope b;
        const auto of_a = a.token();
        const auto of_b = b.token();
        int absorbed = 0;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                a.run([&] { absorbed += !of_b.run([] { creel::this_fiber::sleep_for(1h); }); });
            });
            n.spawn([&] {
                b.run([&] { absorbed += !of_a.run([] { creel::this_fiber::sleep_for(1h); }); });
            });
            creel::this_fiber::yield();
            of_a.cancel();
        });
        // a absorbs its own; the work that b bound to a's token is cancelled with it, b is not
        CHECK(of_a.cancelled());
        CHECK(!of_b.cancelled());
        CHECK(absorbed == 1);
    });
}

TEST_CASE("a chain of tokens is cancelled to its end without running out of stack") {
    const std::size_t length = under_tsan ? 300 : 5'000;
    run_virtually([] {
        std::deque<creel::cancel_scope> scopes(length);
        std::vector<creel::cancel_token> tokens;
        for (creel::cancel_scope& s : scopes)
            tokens.push_back(s.token());
        creel::with_nursery([&](creel::nursery& n) {
            for (std::size_t i = 0; i + 1 < length; ++i)
                n.spawn([&, i] {
                    static_cast<void>(tokens[i].run(
                        [&] { scopes[i + 1].run([] { creel::this_fiber::sleep_for(1h); }); }));
                });
            n.spawn({.stack_bytes = 16384}, [&] { tokens[0].cancel(); });
        });
        CHECK(tokens.back().cancelled());
    });
}

TEST_CASE("a cancel from another thread ends a wait, withdrawn") {
    run_virtually(
        [] {
            gate never;
            creel::cancel_scope s;
            flag parked;
            std::string reason;
            std::thread other{[&, token = s.token()] {
                parked.await();
                token.cancel("from outside");
            }};
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { s.run([&] { reason = outcome_of([&] { never.pass(); }); }); });
                n.spawn([&] { parked.raise(); });
            });
            other.join();
            CHECK(reason == "cancelled: from outside");
            CHECK(never.waiting() == 0);
        },
        {}, with_others);
}

TEST_CASE("a cancel from another thread that finds a pending wait lets it succeed, and the next "
          "throws") {
    run_virtually(
        [] {
            creel::cancel_scope s;
            flag parked;
            creel::wake_reason reason{};
            std::string next;
            bare_waiter* waiting = nullptr;
            std::thread other{[&, token = s.token()] {
                parked.await();
                token.cancel();
                while (waiting->asked == 0) // by its own thread, to withdraw
                    std::this_thread::yield();
                creel::wake(*waiting);
            }};
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    s.run([&] {
                        bare_waiter w;
                        waiting = &w;
                        reason = creel::park(w);
                        next = outcome_of([] { creel::this_fiber::yield(); });
                    });
                });
                n.spawn([&] { parked.raise(); });
            });
            other.join();
            CHECK(reason == creel::wake_reason::signalled);
            CHECK(next == "cancelled: ");
        },
        {}, with_others);
}

TEST_CASE("a cancel from another thread reaches a running fiber at a checkpoint") {
    run_virtually(
        [] {
            creel::cancel_scope s;
            flag running;
            std::thread other{[&, token = s.token()] {
                running.await();
                token.cancel();
            }};
            CHECK(!s.run([&] {
                running.raise();
                for (;;)
                    creel::this_fiber::checkpoint();
            }));
            other.join();
        },
        {}, with_others);
}

TEST_CASE("a cancel from another thread finds a fiber ready to run: it keeps its success") {
    run_virtually(
        [] {
            gate g;
            creel::cancel_scope s;
            bool passed = false;
            bool next_thrown = false;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    s.run([&] {
                        g.pass();
                        passed = true;
                        when_cancelled([&] { next_thrown = true; });
                    });
                });
                n.spawn([&, token = s.token()] {
                    g.let_one_pass(); // ready from here on, and no other fiber runs before we park
                    std::thread{[&] { token.cancel(); }}.join();
                    creel::detail::scheduler::current()->incoming().deliver_all();
                    CHECK(s.cancel_called()); // it has arrived
                    CHECK(!passed);
                });
            });
            CHECK(passed);
            CHECK(next_thrown);
        },
        {}, with_others);
}

TEST_CASE(
    "a cancel from another thread finds a fiber finished, or its whole run: nothing happens") {
    std::optional<creel::cancel_token> token;
    run_virtually(
        [&] {
            creel::cancel_scope s;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { s.run([&] { token = creel::current_token(); }); });
            });
            std::thread{[&] { token->cancel("too late"); }}.join();
            creel::this_fiber::yield();
        },
        {}, with_others);
    std::thread{[&] { token->cancel("later still"); }}.join();
    CHECK(token->cancelled());
}

TEST_CASE("a cancel that is in the inbox when its scope is left harms nobody") {
    const auto left = run_virtually(
        [] {
            for (int i = 0; i < 10; ++i) {
                creel::cancel_scope s;
                // No poll in between, so the inbox is not emptied before the scope is left.
                CHECK(s.run([token = s.token()] { std::thread{[&] { token.cancel(); }}.join(); }));
            }
            creel::this_fiber::sleep_for(1s);
        },
        {}, with_others);
    CHECK(left == nothing);
}

TEST_CASE("work on another scheduler is bound to a scope here, both ways") {
    run_virtually(
        [] {
            creel::cancel_scope here;
            flag entered;
            bool there_cancelled = false;
            here.run([&] {
                std::thread other{[&, token = creel::current_token()] {
                    run_virtually(
                        [&] {
                            gate never;
                            there_cancelled = !token.run([&] {
                                entered.raise();
                                never.pass();
                            });
                        },
                        {}, with_others);
                }};
                entered.await();
                here.cancel();
                other.join();
            });
            CHECK(there_cancelled);
        },
        {}, with_others);
}

TEST_CASE("a cancel wakes a plain thread that is parked in its scope") {
    for (int round = 0; round < 50; ++round) {
        gate never;
        flag entered;
        creel::cancel_token token;
        std::string reason;
        bool absorbed = false;
        std::thread plain{[&] {
            absorbed = !token.run([&] {
                entered.raise();
                reason = outcome_of([&] { never.pass(); });
                never.pass();
            });
        }};
        entered.await();
        if (round % 2 == 0) // in half of the rounds it will rather be asleep
            while (never.waiting() == 0)
                std::this_thread::yield();
        token.cancel("wake up");
        plain.join();
        CHECK(absorbed);
        CHECK(reason == "cancelled: wake up");
    }
}

TEST_CASE("on a plain thread a cancel from elsewhere is seen at the next check") {
    creel::cancel_scope s;
    std::string reason;
    s.run([&] {
        std::thread{[token = s.token()] { token.cancel("while it ran"); }}.join();
        reason = outcome_of([] { creel::this_fiber::checkpoint(); });
    });
    CHECK(reason == "cancelled: while it ran");
}

TEST_CASE("a scope cancelled from another thread is a clear error") {
    CHECK_THAT(abort_of([] {
                   creel::cancel_scope s;
                   s.run([&] { std::thread{[&] { s.cancel(); }}.join(); });
               }),
               Catch::Contains("cancel its token()"));
}

TEST_CASE("a stop request cancels what runs under with_stop_token") {
    run_virtually(
        [] {
            gate never;
            std::stop_source source;
            CHECK(creel::with_stop_token(source.get_token(), [] { return 4; }) == 4);
            std::string reason;
            flag entered;
            std::thread other{[&] {
                entered.await();
                source.request_stop();
            }};
            CHECK(!creel::with_stop_token(source.get_token(), [&] {
                entered.raise();
                reason = outcome_of([&] { never.pass(); });
                never.pass();
            }));
            other.join();
            CHECK(reason == "cancelled: a stop was requested");
            bool started = false;
            CHECK(!creel::with_stop_token(source.get_token(), [&](creel::cancel_scope& s) {
                started = s.cancel_called();
                creel::this_fiber::yield();
            }));
            CHECK(started);
        },
        {}, with_others);
}

TEST_CASE("a jthread that parks ends with its stop request") {
    gate never;
    bool ended = false;
    {
        std::jthread worker{[&](std::stop_token stop) {
            ended = !creel::with_stop_token(std::move(stop), [&] { never.pass(); });
        }};
    }
    CHECK(ended);
}

TEST_CASE("a token taken while unwinding tells of the scopes that a wait there obeys") {
    run_virtually([] {
        struct cleanup {
            std::string& log;
            ~cleanup() {
                creel::cancel_token mine;
                const auto tell = [&] { log += mine.cancelled() ? "cancelled " : "fresh "; };
                static_cast<void>(creel::move_on_after(1s, [&] {
                    mine = creel::current_token();
                    tell();
                    creel::with_nursery([&](creel::nursery& n) {
                        n.spawn([&] {
                            log += creel::current_token().cancelled() ? "cancelled " : "fresh ";
                        });
                    });
                    const bool ran = mine.run([] { creel::this_fiber::sleep_for(1ms); });
                    log += ran ? "ran " : "cut short ";
                    creel::this_fiber::sleep_for(1h);
                }));
                tell();
            }
        };
        std::string log;
        const bool done = creel::move_on_after(1ms, [&] {
            const cleanup last{log};
            creel::this_fiber::sleep_for(1h);
        });
        CHECK(!done);
        CHECK(log == "fresh fresh ran cancelled ");
    });
}

TEST_CASE("current_token while unwinding is of the scope that a wait there obeys, or of none") {
    struct cleanup {
        ~cleanup() {
            const auto token = creel::current_token();
            CHECK(!token.cancelled());
            bool ran = false;
            CHECK(token.run([&] {
                creel::this_fiber::sleep_for(1ms);
                ran = true;
            }));
            CHECK(ran);
            creel::move_on_after(1s, [](creel::cancel_scope& s) {
                CHECK(creel::current_token() == s.token());
                CHECK(!creel::current_token().cancelled());
            });
        }
    };
    run_virtually([] {
        CHECK(!creel::move_on_after(1ms, [] {
            const cleanup last;
            creel::this_fiber::sleep_for(1h);
        }));
    });
}

TEST_CASE("a token that has followed a cancel from outside can still be cancelled itself") {
    run_virtually([] {
        bool went_on = false;
        creel::cancel_scope outer;
        outer.run([&] {
            creel::cancel_scope inner;
            const auto token = inner.token();
            const bool finished = inner.run([&] {
                outer.cancel("outside");
                CHECK(token.cancelled());
                inner.set_shielded(true);
                creel::this_fiber::sleep_for(1ms);
                token.cancel("itself");
                creel::this_fiber::sleep_for(1ms);
                went_on = true;
            });
            CHECK(!finished);
            CHECK(inner.reason()->text == "itself");
        });
        CHECK(!went_on);
    });
}
