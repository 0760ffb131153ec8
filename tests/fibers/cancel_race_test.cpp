// Success beats cancel in fibers/: a wait's completion and its cancel, in both orders, within one
// round; and cancels from other threads at any time. (The races of a waiter are in waiter_test.cpp,
// those of the kernel in tests/io.)
#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/outcome.hpp"
#include "support/when_cancelled.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

// True if a wait throws `cancelled` here and now.
bool next_wait_throws() {
    return outcome_of([] { creel::this_fiber::yield(); }).starts_with("cancelled");
}

} // namespace

TEST_CASE("a sleep that is over in the round of its cancel has slept, and the next wait throws") {
    run_virtually([](manual_poller& outside) {
        const auto end = outside.now() + 1s;
        bool slept = false;
        bool next_threw = false;
        creel::cancel_scope s;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                s.run([&] {
                    creel::this_fiber::sleep_until(end);
                    slept = true;
                    next_threw = next_wait_throws();
                });
            });
            creel::this_fiber::yield();
            s.set_deadline(end); // armed after the sleep, so it fires after it
        });
        CHECK(slept);
        CHECK(next_threw);
    });
}

TEST_CASE("a sleep cancelled in the round of its end did not sleep") {
    run_virtually([](manual_poller& outside) {
        const auto end = outside.now() + 1s;
        bool slept = false;
        CHECK(!creel::move_on_at(end, [&] {
            creel::this_fiber::sleep_until(end);
            slept = true;
        }));
        CHECK(!slept);
    });
}

TEST_CASE("get() that is cancelled in the round of the child's end has its value, or can ask "
          "again") {
    for (const bool cancel_first : {true, false}) {
        INFO("cancel first: " << cancel_first);
        run_virtually([cancel_first] {
            gate g;
            creel::cancel_scope s;
            std::optional<int> got;
            std::optional<int> got_later;
            bool next_threw = false;
            creel::task<int> child;
            creel::with_nursery([&](creel::nursery& n) {
                child = n.async([&] {
                    g.pass();
                    return 5;
                });
                n.spawn([&] {
                    s.run([&] {
                        try {
                            got = child.get();
                        } catch (const creel::cancelled&) {
                        }
                        next_threw = next_wait_throws();
                    });
                    if (!got)
                        got_later = child.get();
                });
                creel::this_fiber::yield(); // both wait
                if (cancel_first) {
                    s.cancel();
                    g.open();
                } else {
                    g.open();
                    n.spawn([&] { s.cancel(); }); // behind the child, before its getter
                }
            });
            CHECK(next_threw);
            CHECK(got == (cancel_first ? std::nullopt : std::optional{5}));
            CHECK(got_later == (cancel_first ? std::optional{5} : std::nullopt));
        });
    }
}

TEST_CASE("a plain thread woken and cancelled at once has its success, or was withdrawn") {
    int passed = 0;
    int lost = 0;
    for (int round = 0; round < 200; ++round) {
        gate g;
        const creel::cancel_token token;
        bool was_let = false;
        bool went_through = false;
        std::thread plain{[&] {
            static_cast<void>(token.run([&] {
                g.pass();
                went_through = true;
            }));
        }};
        while (g.waiting() == 0)
            std::this_thread::yield();
        if (round % 2 == 0)
            token.cancel();
        was_let = g.let_one_pass();
        token.cancel();
        plain.join();
        passed += went_through;
        lost += was_let != went_through; // a wake that was taken is a success
    }
    CHECK(lost == 0);
    CHECK(passed >= 100);
}

TEST_CASE("a shield raised when a wait was withdrawn already comes too late for that wait only") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::cancel_scope around;
        creel::cancel_scope shielded;
        std::string log;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const bool done = around.run([&] {
                    shielded.run([&] {
                        when_cancelled([&](const creel::cancelled& c) {
                            log += c.reason().text;
                            creel::this_fiber::sleep_for(1s); // behind the shield
                            log += " cleaned";
                        });
                    });
                });
                log += done ? " done" : " absorbed";
            });
            creel::this_fiber::yield();
            around.cancel("enough"); // the sleep is withdrawn: its fiber is ready
            shielded.set_shielded(true);
        });
        CHECK(log == "enough cleaned absorbed");
        CHECK(outside.now() - begin == 1s);
    });
}

TEST_CASE("a shield toggled while a cancel spreads decides for each wait anew") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        creel::cancel_scope shielded;
        std::string log;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                static_cast<void>(creel::move_on_after(1s, [&] {
                    shielded.set_shielded(true);
                    shielded.run([&] {
                        creel::this_fiber::sleep_for(2s); // past the deadline outside
                        log += "slept ";
                        when_cancelled([&] {
                            log += "cancelled ";
                            shielded.set_shielded(true); // while `cancelled` is being handled
                            creel::this_fiber::sleep_for(1s);
                            log += "cleaned ";
                        });
                    });
                    log += "never ";
                }));
                log += "absorbed";
            });
            creel::this_fiber::sleep_for(3s);
            shielded.set_shielded(false);
        });
        CHECK(log == "slept cancelled cleaned absorbed");
        CHECK(outside.now() - begin == 4s);
    });
}

namespace {

// Scopes of one member that come and go, and the token of the newest scope, for other members to
// cancel.
class scope_in_turn {
public:
    // True if a scope was left otherwise than by the cancel that it waited for.
    bool come_and_go(bool waits, bool told_inside) {
        creel::cancel_scope s;
        const auto token = s.token();
        if (!told_inside)
            tell_of(token);
        const bool done = s.run([&] {
            if (told_inside)
                tell_of(token);
            if (waits)
                never_.pass();
        });
        return waits && done;
    }

    void cancel() {
        if (const auto token = newest())
            token->cancel();
    }

private:
    void tell_of(const creel::cancel_token& token) {
        const std::lock_guard lock{mutex_};
        newest_ = token;
    }
    std::optional<creel::cancel_token> newest() {
        const std::lock_guard lock{mutex_};
        return newest_;
    }

    gate never_;
    std::mutex mutex_;
    std::optional<creel::cancel_token> newest_; // guarded by mutex_
};

} // namespace

TEST_CASE("stress: cancels from other threads race with scopes that come and go", "[stress]") {
    // The last two plain threads cancel until all other members are done.
    const crowd_options options{.fibers_each = 2, .plain_threads = 3, .virtual_time = true};
    const unsigned scopes = members_of(options) - 2;
    std::vector<scope_in_turn> turns(scopes);
    std::atomic<unsigned> left{scopes};
    std::atomic<int> wrong{0};
    crowd everybody{"cancels from other threads", options, [&](crowd_member& me) {
                        if (me.number < scopes) {
                            for (unsigned i = 0; me.goes_on(i, 4'000); ++i)
                                wrong += turns[me.number].come_and_go(i % 2 == 0, i % 4 < 2);
                            --left;
                        }
                        while (me.number >= scopes && left > 0)
                            for (scope_in_turn& turn : turns)
                                turn.cancel();
                    }};
    everybody.join();
    CHECK(wrong == 0);
}
