// Success beats cancel in fibers/: a wait's completion and its cancel, in both orders, within one
// round. (The gate's own race is in cancel_scope_test.cpp, the kernel's in tests/io.)
#include "support/fixture.hpp"
#include "support/gate.hpp"

#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

// True if a wait throws `cancelled` here and now.
bool next_wait_throws() {
    try {
        creel::this_fiber::yield();
    } catch (const creel::cancelled&) {
        return true;
    }
    return false;
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

TEST_CASE("a failure while being cancelled is the error that is thrown") {
    run_virtually([] {
        std::string what;
        try {
            creel::with_nursery([](creel::nursery& n) {
                n.spawn([] {
                    try {
                        creel::this_fiber::sleep_for(1h);
                    } catch (const creel::cancelled&) {
                        throw std::runtime_error("while cancelled");
                    }
                });
                creel::this_fiber::yield();
                n.cancel();
            });
        } catch (const std::runtime_error& e) {
            what = e.what();
        }
        CHECK(what == "while cancelled");
    });
}

TEST_CASE("an error in cleanup during cancellation joins the failure that caused it") {
    run_virtually([] {
        struct cleanup {
            std::string& log;
            ~cleanup() {
                try { // an exception of its own must not leave a destructor
                    creel::fail_after(1s, [] { creel::this_fiber::sleep_for(1h); });
                } catch (const creel::timed_out&) {
                    log += "cleanup timed out; ";
                }
            }
        };
        std::string log;
        try {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    const cleanup last{log};
                    creel::this_fiber::sleep_for(1h);
                });
                n.spawn([] {
                    creel::this_fiber::yield();
                    throw std::runtime_error("first");
                });
            });
        } catch (const std::runtime_error& e) {
            log += e.what();
        }
        CHECK(log == "cleanup timed out; first");
    });
}

TEST_CASE("an error thrown by cleanup during a cancel is in a group with its cause") {
    run_virtually([] {
        std::vector<std::string> messages;
        try {
            creel::with_nursery([](creel::nursery& n) {
                n.spawn([] {
                    try {
                        creel::this_fiber::sleep_for(1h);
                    } catch (const creel::cancelled&) {
                        throw std::runtime_error("cleanup");
                    }
                });
                creel::this_fiber::yield();
                throw std::runtime_error("cause");
            });
        } catch (const creel::exception_group& group) {
            for (const auto& e : group.errors())
                messages.push_back(creel::describe_exception(e));
        }
        CHECK(messages == std::vector<std::string>{"cause", "cleanup"});
    });
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
                        try {
                            creel::this_fiber::sleep_for(1h);
                        } catch (const creel::cancelled& c) {
                            log += c.reason().text;
                            creel::this_fiber::sleep_for(1s); // behind the shield
                            log += " cleaned";
                            throw;
                        }
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
                        try {
                            creel::this_fiber::sleep_for(1h);
                        } catch (const creel::cancelled&) {
                            log += "cancelled ";
                            shielded.set_shielded(true); // while `cancelled` is being handled
                            creel::this_fiber::sleep_for(1s);
                            log += "cleaned ";
                            throw;
                        }
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
