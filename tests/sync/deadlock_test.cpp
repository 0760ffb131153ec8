// Fibers that wait for each other, and fibers that only look so.
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/sanitizers.hpp"
#include "support/settle.hpp"
#include "support/stderr_capture.hpp"

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/deadlock.hpp>
#include <creel/fibers/dump.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/race.hpp>
#include <creel/fibers/started.hpp>
#include <creel/fibers/task.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/sync/condition_variable.hpp>
#include <creel/sync/event.hpp>
#include <creel/sync/mutex.hpp>
#include <creel/sync/once.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/shared_mutex.hpp>
#include <creel/sync/single_flight.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

using namespace creel::test;
using namespace std::chrono_literals;
using Catch::Contains;
using Catch::Matches;
using creel::nursery;
using creel::sync::mutex;

namespace {

// What io::run does: the root is a nursery of the main fiber. Returns what() of the deadlock; empty
// if there was none.
std::string deadlock_of(const std::function<void()>& body, creel::scheduler_options options = {}) {
    const stderr_capture told;
    std::string what;
    try {
        static_cast<void>(run_virtually(
            [&] { creel::with_nursery({.name = "root"}, [&](nursery&) { body(); }); }, options));
    } catch (const creel::deadlock& e) {
        what = e.what();
    }
    return what;
}

void lock(mutex& m) {
    m.lock_cancellable();
}

// Locks one mutex, lets others run, and locks another one.
void lock_both(mutex& first, mutex& second, creel::duration between = 10ms) {
    lock(first);
    const std::lock_guard holds_first{first, std::adopt_lock};
    creel::this_fiber::sleep_for(between);
    lock(second);
    const std::lock_guard holds_second{second, std::adopt_lock};
}

} // namespace

TEST_CASE("two fibers that lock two mutexes in opposite order end the run with a deadlock") {
    int cancelled_for_it = 0;
    const std::string what = deadlock_of([&] {
        mutex a;
        mutex b;
        const auto locker = [&](mutex& first, mutex& second) {
            try {
                lock_both(first, second);
            } catch (const creel::cancelled& c) {
                cancelled_for_it += c.reason().cause == creel::cancel_cause::deadlock ? 1 : 0;
                throw;
            }
        };
        creel::with_nursery([&](nursery& n) {
            n.spawn({.name = "ab"}, [&] { locker(a, b); });
            n.spawn({.name = "ba"}, [&] { locker(b, a); });
        });
    });
    CHECK(cancelled_for_it == 2);
    CHECK_THAT(what, Contains("deadlock: 2 fibers wait for each other"));
    CHECK_THAT(what, Matches("[^]*\n  ab \\(#[^]* waits for mutex made at [^]*, held by ba "
                             "\\(#[^]*\n  ba \\(#[^]*, held by ab \\(#[^]*"));
}

TEST_CASE("bug: while a search for deadlocks is due, a fiber that yields alone still polls") {
    static_cast<void>(run_virtually([](manual_poller& outside) {
        mutex m;
        lock(m);
        creel::with_nursery([&](nursery& n) {
            n.spawn([&m] { const std::lock_guard holds{m}; });
            creel::this_fiber::yield();
            int without_poll = 0;
            for (int i = 0; i < 100; ++i) {
                outside.advance(100ms);
                const auto before = creel::statistics().polls;
                creel::this_fiber::yield();
                without_poll += creel::statistics().polls == before ? 1 : 0;
            }
            CHECK(without_poll == 0);
            m.unlock();
        });
    }));
}

TEST_CASE("a deadlock of plain lock() aborts, and names the fibers with their backtraces") {
    const child_result child = run_in_child([] {
        static_cast<void>(run_virtually([] {
            mutex a;
            mutex b;
            creel::with_nursery([&](nursery& n) {
                const auto both = [](mutex& first, mutex& second) {
                    const std::lock_guard holds_first{first};
                    creel::this_fiber::sleep_for(10ms);
                    const std::lock_guard holds_second{second};
                };
                n.spawn({.name = "ab"}, [&] { both(a, b); });
                n.spawn({.name = "ba"}, [&] { both(b, a); });
                // It is found while others run.
                n.spawn({.name = "ticker"}, [] {
                    for (;;)
                        creel::this_fiber::sleep_for(1ms);
                });
            });
        }));
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Contains("creel: deadlock: 2 fibers wait for each other"));
    CHECK_THAT(child.stderr_text, Contains("no cancel ends any of these waits"));
    CHECK_THAT(child.stderr_text, Contains("deadlock_test.cpp"));
    CHECK_THAT(child.stderr_text, !Contains("ticker"));
}

TEST_CASE("one cancellable wait in a cycle of plain ones is enough to end it") {
    const std::string what = deadlock_of([] {
        mutex a;
        mutex b;
        creel::with_nursery([&](nursery& n) {
            n.spawn({.name = "polite"}, [&] { lock_both(a, b); });
            n.spawn({.name = "plain"}, [&] {
                creel::shield([&] {
                    const std::lock_guard holds_b{b};
                    creel::this_fiber::sleep_for(10ms);
                    const std::lock_guard holds_a{a};
                });
            });
        });
    });
    CHECK_THAT(what, Contains("polite"));
}

TEST_CASE("a parent that waits for a child with a lock held that the child wants is a deadlock") {
    const std::string what = deadlock_of([] {
        mutex m;
        const std::lock_guard held{m};
        creel::with_nursery([&](nursery& n) {
            n.spawn({.name = "between"}, [&] {
                creel::with_nursery([&](nursery& inner) {
                    inner.spawn({.name = "grandchild"}, [&] {
                        creel::this_fiber::sleep_for(10ms);
                        lock(m);
                        m.unlock();
                    });
                });
            });
        });
    });
    CHECK_THAT(what, Contains(") waits for its child, and so for grandchild (#"));
    CHECK_THAT(what, Contains("held by main (#"));
}

TEST_CASE("two fibers that wait for each other's results are a deadlock") {
    const std::string what = deadlock_of([] {
        std::optional<creel::task<int>> first;
        std::optional<creel::task<int>> second;
        creel::with_nursery([&](nursery& n) {
            first = n.async({.name = "first"}, [&] { return second->get(); });
            second = n.async({.name = "second"}, [&] { return first->get(); });
        });
    });
    CHECK_THAT(what, Contains("first (#"));
    CHECK_THAT(what, Contains("second (#"));
}

TEST_CASE("bug: a deadlock is found soon, however long another fiber has waited for a result") {
    const child_result child = run_in_child([] {
        static_cast<void>(run_virtually([] {
            mutex a;
            mutex b;
            const auto both = [](mutex& first, mutex& second) {
                const std::lock_guard holds_first{first};
                creel::this_fiber::sleep_for(10ms);
                const std::lock_guard holds_second{second};
            };
            creel::with_nursery([&](nursery& n) {
                auto slow = n.async([] { creel::this_fiber::sleep_for(100h); });
                n.spawn([&] { slow.get(); });
                creel::this_fiber::sleep_for(10h);
                n.spawn([&] { both(a, b); });
                n.spawn([&] { both(b, a); });
                creel::this_fiber::sleep_for(10h);
            });
        }));
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Matches("[^]* for ([0-9.]+(ns|us|ms)|[0-2][0-9.]*s), stack[^]*"));
}

TEST_CASE("a cycle that a sibling may yet cancel is told once, and the run goes on") {
    const stderr_capture told;
    int gave_up = 0;
    static_cast<void>(run_virtually([&] {
        creel::with_nursery({.name = "root"}, [&](nursery&) {
            mutex a;
            mutex b;
            const auto polite = [&](mutex& first, mutex& second) {
                try {
                    lock_both(first, second);
                } catch (const creel::cancelled&) {
                    ++gave_up;
                    throw;
                }
            };
            creel::with_nursery([&](nursery& n) {
                n.spawn([&] { polite(a, b); });
                n.spawn([&] { polite(b, a); });
                creel::this_fiber::sleep_for(1h);
                n.cancel();
            });
        });
    }));
    CHECK(gave_up == 2);
    CHECK_THAT(told.text(), Contains("only a cancel can end these waits"));
    const std::string begin = "creel: deadlock";
    CHECK(told.text().find(begin) == told.text().rfind(begin));
}

TEST_CASE("a once, a single_flight and a shared_mutex can close a cycle") {
    SECTION("a child of a once's function calls the once") {
        creel::sync::once o;
        CHECK(deadlock_of([&] {
                  o.call([&] {
                      creel::with_nursery([&](nursery& n) { n.spawn([&] { o.call([] {}); }); });
                  });
              }) != "");
    }
    SECTION("a child of a computation asks for the same key") {
        creel::sync::single_flight<int, int> flights;
        CHECK(deadlock_of([&] {
                  static_cast<void>(flights.run(1, [&] {
                      creel::with_nursery([&](nursery& n) {
                          n.spawn([&] { static_cast<void>(flights.run(1, [] { return 2; })); });
                      });
                      return 1;
                  }));
              }) != "");
    }
    SECTION("the only reader wants to write") {
        creel::sync::shared_mutex m;
        CHECK_THAT(deadlock_of([&] {
                       const std::shared_lock reads{m};
                       m.lock_cancellable();
                   }),
                   Contains("a fiber waits for itself") && Contains("shared_mutex made at") &&
                       Contains("to write"));
    }
}

TEST_CASE("in debug mode a deadlock is found at the lock that closes it") {
    creel::duration took = 1h;
    const std::string what = deadlock_of(
        [&] {
            const creel::time_point began = creel::now();
            mutex a;
            mutex b;
            creel::with_nursery([&](nursery& n) {
                n.spawn([&] { lock_both(a, b, 10ms); });
                n.spawn([&] {
                    try {
                        lock_both(b, a, 20ms);
                    } catch (...) {
                        took = creel::now() - began;
                        throw;
                    }
                });
            });
        },
        {.debug = true});
    CHECK(what != "");
    CHECK(took == 20ms); // by the virtual clock
}

TEST_CASE("what only looks like a deadlock goes on") {
    mutex a;
    mutex b;
    SECTION("a deadline breaks the cycle") {
        int gave_up = 0;
        CHECK(deadlock_of([&] {
                  creel::with_nursery([&](nursery& n) {
                      n.spawn([&] { lock_both(a, b); });
                      n.spawn([&] {
                          gave_up += creel::move_on_after(1h, [&] { lock_both(b, a); }) ? 0 : 1;
                      });
                  });
              }) == "");
        CHECK(gave_up == 1);
    }
    SECTION("the holder sleeps") {
        CHECK(deadlock_of([&] {
                  creel::with_nursery([&](nursery& n) {
                      n.spawn([&] {
                          const std::lock_guard held{a};
                          creel::this_fiber::sleep_for(100h);
                      });
                      for (int i = 0; i < 10; ++i)
                          n.spawn([&] { const std::lock_guard held{a}; });
                  });
              }) == "");
    }
    SECTION("a parent waits with a lock held, and only its other nursery's child wants it") {
        CHECK(deadlock_of([&] {
                  creel::with_nursery([&](nursery& outer) {
                      {
                          const std::lock_guard held{a};
                          outer.spawn([&] { const std::lock_guard mine{a}; });
                          creel::with_nursery([&](nursery& inner) {
                              inner.spawn([] { creel::this_fiber::sleep_for(100h); });
                          });
                      }
                  });
              }) == "");
    }
    SECTION("a wait on a condition variable gives the mutex away") {
        creel::sync::condition_variable ready;
        bool is_ready = false;
        CHECK(deadlock_of([&] {
                  creel::with_nursery([&](nursery& n) {
                      n.spawn([&] {
                          std::unique_lock held{a};
                          ready.wait(held, [&] { return is_ready; });
                      });
                      n.spawn([&] {
                          creel::this_fiber::sleep_for(100h);
                          const std::lock_guard held{a};
                          is_ready = true;
                          ready.notify_one();
                      });
                  });
              }) == "");
    }
    SECTION("bug: a service that start() waits for moves away, whatever its children wait for") {
        CHECK(deadlock_of([&] {
                  creel::with_nursery([&](nursery& n) {
                      {
                          const std::lock_guard held{a};
                          n.start<void>([&](creel::started<void>& ready) {
                              creel::with_nursery([&](nursery& workers) {
                                  workers.spawn([&] { const std::lock_guard mine{a}; });
                                  creel::this_fiber::sleep_for(1h);
                                  ready.set();
                              });
                          });
                      }
                  });
              }) == "");
    }
    SECTION("bug: a reader waits behind a writer that gives up, and not for the reader inside") {
        creel::sync::shared_mutex m;
        CHECK(deadlock_of([&] {
                  const std::shared_lock reads{m};
                  creel::with_nursery([&](nursery& n) {
                      n.spawn([&] {
                          static_cast<void>(
                              creel::move_on_after(1h, [&] { m.lock_cancellable(); }));
                      });
                      n.spawn([&] { const std::shared_lock reads_too{m}; });
                  });
              }) == "");
    }
    SECTION("bug: a race is won by a timeout, which cancels the wait") {
        CHECK(deadlock_of([&] {
                  const std::lock_guard held{a};
                  static_cast<void>(creel::race(
                      [&] {
                          lock(a);
                          return 1;
                      },
                      [] {
                          creel::this_fiber::sleep_for(1h);
                          return 2;
                      }));
              }) == "");
    }
    SECTION("bug: a token from outside ends the wait of a sibling, which cancels the nursery") {
        const stderr_capture told;
        static_cast<void>(run_virtually([&](manual_poller& outside) {
            creel::cancel_token breaker;
            outside.after(1h, [&] { breaker.cancel(); });
            creel::with_nursery({.name = "root"}, [&](nursery&) {
                creel::with_nursery([&](nursery& n) {
                    n.spawn([&] { lock_both(a, b); });
                    n.spawn([&] { lock_both(b, a); });
                    n.spawn([&] {
                        creel::this_fiber::sleep_for(20ms);
                        static_cast<void>(breaker.run([&] { lock(a); }));
                        n.cancel();
                    });
                });
            });
        }));
        CHECK_THAT(told.text(), Contains("only a cancel can end these waits"));
    }
    SECTION("another thread may hand in a task that fails, which cancels the nursery") {
        const stderr_capture told;
        static_cast<void>(run_virtually([&](manual_poller& outside) {
            creel::with_nursery({.name = "root"}, [&](nursery&) {
                CHECK_THROWS_AS(creel::with_nursery([&](nursery& n) {
                                    n.spawn([&] { lock_both(a, b); });
                                    n.spawn([&] { lock_both(b, a); });
                                    outside.after(1h, [entry = n.remote()] {
                                        CHECK(entry.spawn([] { throw std::runtime_error{"it"}; }));
                                    });
                                }),
                                std::runtime_error);
            });
        }));
        CHECK_THAT(told.text(), Contains("only a cancel can end these waits"));
    }
    SECTION("bug: a watchdog cancels one of the waits by a token") {
        creel::cancel_token breaker;
        CHECK(deadlock_of([&] {
                  creel::with_nursery([&](nursery& n) {
                      n.spawn([&] { lock_both(a, b); });
                      n.spawn([&] { static_cast<void>(breaker.run([&] { lock_both(b, a); })); });
                      creel::this_fiber::sleep_for(1h);
                      breaker.cancel();
                  });
              }) == "");
    }
    SECTION("fibers wait for the result of one that works") {
        CHECK(deadlock_of([&] {
                  creel::with_nursery([&](nursery& n) {
                      auto slow = n.async([] { creel::this_fiber::sleep_for(100h); });
                      n.spawn([&] { slow.get(); });
                      n.join(); // for it uses `slow`
                  });
              }) == "");
    }
}

TEST_CASE("an error of the program comes before the deadlock that it was found in") {
    const stderr_capture told;
    CHECK_THROWS_AS(run_virtually([] {
                        creel::with_nursery([](nursery&) {
                            mutex m;
                            const std::lock_guard held{m};
                            try {
                                creel::with_nursery([&](nursery& n) { n.spawn([&] { lock(m); }); });
                            } catch (...) {
                            }
                            throw std::runtime_error("mine");
                        });
                    }),
                    std::runtime_error);
}

TEST_CASE("a dump names the holder of a lock, the place in line, and what a queue has") {
    std::ostringstream out;
    static_cast<void>(run_virtually(
        [&] {
            mutex m;
            creel::sync::queue<int> empty{4};
            creel::sync::queue<int> full{1};
            static_cast<void>(full.push(1));
            creel::sync::event done;
            creel::with_nursery([&](nursery& n) {
                n.spawn({.name = "owner"}, [&] {
                    const std::lock_guard held{m};
                    done.wait();
                });
                settle();
                n.spawn({.name = "next"}, [&] { const std::lock_guard held{m}; });
                n.spawn({.name = "last"}, [&] { const std::lock_guard held{m}; });
                n.spawn({.name = "popper"}, [&] { static_cast<void>(empty.pop()); });
                n.spawn({.name = "pusher"}, [&] { static_cast<void>(full.push(2)); });
                settle();
                creel::dump_fibers(out, {.most_frames = 0, .patience = 20s});
                done.set();
                empty.close();
                full.close();
            });
        },
        {}, manual_poller::other_threads::yes));
    const std::string text = out.str();
    INFO(text);
    CHECK_THAT(text, Contains("next (#") && Contains(", 1st of 2 in line, held by owner (#"));
    CHECK_THAT(text, Contains(", 2nd of 2 in line, held by owner (#"));
    CHECK_THAT(text, Contains(", to pop: it is empty"));
    CHECK_THAT(text, Contains(", to push: it has 1 of 1 items"));
}

// ---- every fiber waits --------------------------------------------------------------------------

namespace {

// A clock that jumps to the next deadline, and no operations: nothing comes from outside.
class empty_world final : public creel::poller {
public:
    creel::time_point now() noexcept override { return now_; }
    void poll() noexcept override {}
    void wait_until(creel::time_point deadline) noexcept override {
        expect(deadline != creel::time_point::max()); // else the run hangs
        now_ = std::max(now_, deadline);
        std::this_thread::yield(); // to one that is about to wake a fiber
    }
    void wake() noexcept override {}
    [[nodiscard]] bool may_deliver() const noexcept override { return false; }

private:
    creel::time_point now_{1000h};
};

// In a child: the process of the tests may have other threads.
child_result alone(const std::function<void(nursery&)>& body,
                   creel::scheduler_options options = {}) {
    return run_in_child([&] {
        empty_world outside;
        try {
            creel::run_scheduler(outside, options, [&] { creel::with_nursery(body); });
        } catch (const creel::deadlock& e) {
            std::fputs(e.what(), stderr);
            std::_Exit(7);
        }
    });
}

// TSan has a thread of its own in each process.
bool ended_with_deadlock(const child_result& child) {
    return child.exited && child.exit_code == 7;
}

} // namespace

TEST_CASE("a run whose fibers all wait, for what nothing outside can end, ends with a deadlock") {
    if (under_tsan)
        return;
    SECTION("a lost wake") {
        const child_result child = alone([](nursery& n) {
            auto never = std::make_unique<creel::sync::event>();
            n.spawn({.name = "waiter"}, [&] { never->wait(); });
            n.join();
        });
        INFO(to_string(child));
        CHECK(ended_with_deadlock(child));
        CHECK_THAT(child.stderr_text, Contains("creel: deadlock: every fiber waits"));
        CHECK_THAT(child.stderr_text, Contains("waiter (#") && Contains("waits for event made at"));
    }
    SECTION("parents have used up max_fibers") {
        const child_result child = alone(
            [](nursery& n) {
                for (int i = 0; i < 2; ++i)
                    n.spawn({.name = "parent"}, [] {
                        creel::with_nursery([](nursery& inner) { inner.spawn([] {}); });
                    });
            },
            {.max_fibers = 2});
        INFO(to_string(child));
        CHECK(ended_with_deadlock(child));
        CHECK_THAT(child.stderr_text, Contains("has not started: it waits for one of max_fibers"));
    }
    SECTION("a heartbeat goes on in the background") {
        const child_result child = alone([](nursery& n) {
            auto never = std::make_unique<creel::sync::event>();
            n.spawn({.name = "heartbeat", .is_background = true}, [] {
                creel::with_nursery([](nursery& beats) {
                    for (;;) {
                        beats.spawn([] { creel::this_fiber::sleep_for(1ms); });
                        creel::this_fiber::sleep_for(10ms);
                    }
                });
            });
            n.spawn({.name = "waiter"}, [&] { never->wait(); });
            n.join();
        });
        INFO(to_string(child));
        CHECK(ended_with_deadlock(child));
        CHECK_THAT(child.stderr_text, Contains("waiter (#"));
    }
}

TEST_CASE("a run whose fibers all wait goes on while something can end a wait") {
    SECTION("a timer") {
        const child_result child = alone([](nursery& n) {
            creel::sync::event later;
            n.spawn([&] {
                creel::this_fiber::sleep_for(100h);
                later.set();
            });
            later.wait();
        });
        INFO(to_string(child));
        CHECK(child.exit_code == 0);
        CHECK(child.stderr_text == "");
    }
    SECTION("bug: a task in the background holds a lock for a while") {
        const child_result child = alone([](nursery& n) {
            const auto shared = std::make_shared<mutex>();
            n.spawn({.is_background = true}, [shared] {
                for (int i = 0; i < 100; ++i) {
                    const std::lock_guard held{*shared};
                    creel::this_fiber::sleep_for(10s);
                }
            });
            for (int i = 0; i < 10; ++i) {
                creel::this_fiber::sleep_for(1s);
                const std::lock_guard held{*shared};
            }
            n.cancel();
        });
        INFO(to_string(child));
        CHECK(child.exit_code == 0);
        CHECK(child.stderr_text == "");
    }
    SECTION("bug: another thread, even one with a name that it has from creel") {
        const child_result child = alone([](nursery&) {
            creel::sync::event set_later;
            std::jthread other;
            creel::blocking([&] {
                other = std::jthread{[&] {
                    std::this_thread::sleep_for(200ms);
                    set_later.set();
                }};
            });
            set_later.wait();
        });
        INFO(to_string(child));
        CHECK(child.exit_code == 0);
        CHECK(child.stderr_text == "");
    }
    SECTION("a heartbeat in the background, and a timer of another task") {
        const child_result child = alone([](nursery& n) {
            n.spawn({.is_background = true}, [] {
                for (int i = 0; i < 1'000; ++i)
                    creel::this_fiber::sleep_for(1s);
            });
            creel::sync::event never;
            expect(!creel::move_on_after(500s, [&] { never.wait(); }));
            n.cancel();
        });
        INFO(to_string(child));
        CHECK(child.exit_code == 0);
        CHECK(child.stderr_text == "");
    }
}
