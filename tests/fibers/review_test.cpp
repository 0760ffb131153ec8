// What a hostile review found, each a test of its own.
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/outcome.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/fiber.hpp>
#include <boost/fiber/operations.hpp>
#include <catch2/catch.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {
template <typename F>
struct at_exit {
    F f;
    ~at_exit() { f(); }
};
template <typename F>
at_exit(F) -> at_exit<F>;
} // namespace

TEST_CASE("a deadline opened while unwinding cancels the children of a nursery inside it") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        CHECK(!creel::move_on_after(1s, [&] {
            const at_exit cleanup{[] {
                static_cast<void>(creel::move_on_after(2s, [] {
                    creel::with_nursery([](creel::nursery& n) {
                        n.spawn([] { creel::this_fiber::sleep_for(100h); });
                    });
                }));
            }};
            creel::this_fiber::sleep_for(1h);
        }));
        CHECK(outside.now() - begin == 3s);
    });
}

TEST_CASE("a stack of more than 1 GiB is refused by the spawn that asks for it") {
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            const creel::spawn_options large{.stack_bytes = std::size_t{2} << 30};
            const std::string refused = "stack_bytes of a spawn is 2147483648; a fiber's stack may "
                                        "have at most 1 GiB";
            CHECK(outcome_of([&] { n.spawn(large, [] {}); }) == refused);
            CHECK(outcome_of([&] { static_cast<void>(n.remote().spawn(large, [] {})); }) ==
                  refused);
        });
    });
}

TEST_CASE("a deadline ends a nursery whose children wait for a stack") {
    run_virtually(
        [] {
            bool ran = false;
            CHECK(!creel::move_on_after(1s, [&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([] { creel::this_fiber::sleep_for(1h); });
                    creel::this_fiber::yield();
                    n.spawn([&] { ran = true; });
                    creel::this_fiber::sleep_for(1h);
                });
            }));
            CHECK(!ran);
        },
        {.max_fibers = 1});
}

TEST_CASE("what() of a large exception_group stays short") {
    std::vector<std::exception_ptr> many;
    for (int i = 0; i < 1000; ++i)
        many.push_back(std::make_exception_ptr(std::runtime_error("x")));
    const creel::exception_group group{many};
    CHECK(group.errors().size() == 1000);
    CHECK(std::string{group.what()}.find("and 984 more") != std::string::npos);
}

TEST_CASE("exit() in a spawned fiber is a clear error, not a hang") {
    const auto outcome = run_in_child(
        [] {
            run_virtually([] {
                creel::with_nursery([](creel::nursery& n) { n.spawn([] { std::exit(7); }); });
            });
        },
        20s);
    CHECK(!outcome.timed_out);
    CHECK(outcome.stderr_text.find("exit() inside io::run") != std::string::npos);
}

TEST_CASE("an idle fiber ends to make room for a task that needs a larger stack") {
    bool ran = false;
    run_virtually(
        [&] {
            creel::with_nursery([&](creel::nursery& n) { n.spawn([] {}); });
            creel::with_nursery(
                [&](creel::nursery& n) { n.spawn({.stack_bytes = 1 << 20}, [&] { ran = true; }); });
        },
        {.max_fibers = 1});
    CHECK(ran);
}

TEST_CASE("when all fibers wait for children that can have no stack, the oldest such child fails") {
    run_virtually(
        [] {
            CHECK_THROWS_AS(creel::with_nursery([](creel::nursery& n) {
                                n.spawn([] {
                                    creel::with_nursery(
                                        [](creel::nursery& inner) { inner.spawn([] {}); });
                                });
                            }),
                            std::bad_alloc);
        },
        {.max_fibers = 1});
}

TEST_CASE("tasks beyond max_fibers wait their turn, behind nobody younger, and starve nobody") {
    std::string order;
    const auto left = run_virtually(
        [&](manual_poller& outside) {
            gate opened_outside;
            creel::with_nursery([&](creel::nursery& n) {
                for (char c = 'a'; c <= 'e'; ++c)
                    n.spawn([&order, c] {
                        order += c;
                        creel::this_fiber::yield();
                    });
                outside.next_poll([&] { opened_outside.open(); });
                opened_outside.pass();
            });
        },
        {.max_fibers = 2});
    CHECK(order == "abcde");
    CHECK(left == nothing);
}

TEST_CASE("the closure of a task that gets no stack is destroyed on its nursery's own fiber") {
    const auto body = [] {
        std::string where;
        struct told {
            std::string* where;
            ~told() {
                if (where != nullptr)
                    *where = creel::this_fiber::name();
            }
            told(std::string* w) : where(w) {}
            told(told&& o) noexcept : where(std::exchange(o.where, nullptr)) {}
            void operator()() const {}
        };
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn({.name = "opener"}, [&] {
                try {
                    creel::with_nursery([&](creel::nursery& inner) { inner.spawn(told{&where}); });
                } catch (const std::bad_alloc&) {
                }
            });
        });
        CHECK(where == "opener");
    };
    run_virtually(body, {.max_fibers = 1});
}

TEST_CASE("another thread that keeps the inbox full does not starve I/O") {
    auto busy = [](manual_poller& outside) {
        gate opened_outside;
        bool came = false;
        std::atomic<gate*> current{nullptr};
        std::atomic<bool> done{false};
        std::thread waker{[&] { // opens the current gate as soon as somebody waits at it
            while (!done.load())
                if (gate* g = current.load())
                    if (g->let_one_pass())
                        current.store(nullptr);
        }};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                opened_outside.pass();
                came = true;
            });
            creel::this_fiber::yield();
            outside.next_poll([&] { opened_outside.open(); });
            gate g;
            for (int i = 0; i < 100'000 && !came; ++i) {
                current.store(&g);
                g.pass();
                while (current.load() != nullptr) {
                }
            }
        });
        done.store(true);
        waker.join();
        CHECK(came);
    };
    run_virtually(busy, {}, manual_poller::other_threads::yes);
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
    run_virtually([] {
        int copies = 0;
        try {
            static_cast<void>(
                creel::move_on_after(1h, [&] { return throws_on_second_copy{&copies}; }));
        } catch (const std::runtime_error&) {
        }
        CHECK(creel::statistics().timers_armed == 0);
    });
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

TEST_CASE("an error handler whose copy throws leaves no nursery behind") {
    struct bad_handler {
        bad_handler() = default;
        bad_handler(const bad_handler&) { throw std::runtime_error("copy"); }
        bad_handler(bad_handler&&) = default;
        void operator()(std::exception_ptr, const creel::task_info&) const {}
    };
    run_virtually([] {
        const creel::nursery_options options{.on_error = creel::report(bad_handler{})};
        CHECK_THROWS_WITH(creel::with_nursery(options, [](creel::nursery&) {}), "copy");
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

TEST_CASE("a report() handler that waits while the nursery is cancelled ends quietly, at once") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        bool began = false;
        bool interrupted = false;
        auto handler = [&](std::exception_ptr, const creel::task_info&) {
            began = true;
            const at_exit leaving{[&] { interrupted = std::uncaught_exceptions() == 1; }};
            creel::this_fiber::sleep_for(1h);
        };
        creel::with_nursery({.on_error = creel::report(handler)}, [&](creel::nursery& n) {
            n.spawn([] { throw std::runtime_error("bad"); });
            creel::this_fiber::sleep_for(1s);
            n.cancel();
        });
        CHECK(began);
        CHECK(interrupted);
        CHECK(outside.now() - begin == 1s);
    });
}

TEST_CASE("a child whose report() handler waits has not ended: its handle may go meanwhile") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        int reported = 0;
        auto handler = [&](std::exception_ptr, const creel::task_info&) {
            creel::this_fiber::sleep_for(1s);
            ++reported;
        };
        creel::with_nursery({.on_error = creel::report(handler)}, [&](creel::nursery& n) {
            const auto fails = [a = std::array<long, 4>{}] {
                if (a[0] == 0)
                    throw std::runtime_error("bad");
            };
            {
                const auto dropped = n.async(fails);
                creel::this_fiber::yield(); // its handler waits from here on
                CHECK(!dropped.ready());
            }
            bool second_cancelled = false;
            // Of the same size: it must not get the node that is still in use.
            auto second = n.async([&, a = std::array<long, 3>{}] {
                try {
                    creel::this_fiber::sleep_for(1h + creel::duration{a[0]});
                } catch (const creel::cancelled&) {
                    second_cancelled = true;
                    throw;
                }
            });
            CHECK(n.children() == 2);
            creel::this_fiber::sleep_for(2s);
            CHECK(reported == 1);
            CHECK(n.children() == 1);
            auto third = n.async(fails);
            bool saw_error = false;
            try {
                third.get(); // waits for the handler, too
            } catch (const std::runtime_error&) {
                saw_error = true;
            }
            CHECK(saw_error);
            CHECK(outside.now() - begin == 3s);
            n.cancel();
            CHECK_THROWS_AS(creel::shield([&] { second.get(); }), creel::task_cancelled);
            CHECK(second_cancelled);
        });
        CHECK(reported == 2);
        CHECK(outside.now() - begin == 3s);
    });
    CHECK(left == nothing);
}

TEST_CASE("a report() handler may drop the handle of the child that failed") {
    const auto left = run_virtually([] {
        creel::task<std::string> handle;
        auto handler = [&](std::exception_ptr, const creel::task_info& who) {
            handle = {};
            CHECK(who.name == "fails");
        };
        creel::with_nursery({.on_error = creel::report(handler)}, [&](creel::nursery& n) {
            handle = n.async({.name = "fails"},
                             []() -> std::string { throw std::runtime_error("bad"); });
            creel::this_fiber::yield();
            CHECK(!handle.valid());
            CHECK(n.children() == 0);
        });
    });
    CHECK(left == nothing);
}

TEST_CASE("a run awaits the creel calls that Boost fibers are inside") {
    std::string done;
    boost::fibers::fiber sleeper;
    boost::fibers::fiber parent;
    run_virtually([&](manual_poller& outside) {
        const auto begin = outside.now();
        sleeper = boost::fibers::fiber{[&, begin] {
            creel::this_fiber::sleep_for(5s);
            CHECK(creel::now() - begin == 5s);
            done += "slept ";
        }};
        parent = boost::fibers::fiber{[&] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    creel::this_fiber::sleep_for(2s);
                    done += "child ";
                });
            });
            done += "nursery ";
        }};
        boost::this_fiber::yield();
    });
    CHECK(done == "child nursery slept ");
    sleeper.join();
    parent.join();
}

TEST_CASE("cancelling the outermost nursery reaches Boost fibers inside creel calls") {
    std::string outcome;
    run_virtually([&](manual_poller& outside) {
        const auto begin = outside.now();
        boost::fibers::fiber native;
        creel::with_nursery([&](creel::nursery& n) {
            native = boost::fibers::fiber{[&] {
                try {
                    creel::this_fiber::sleep_for(100h);
                } catch (const creel::cancelled& c) {
                    outcome = c.reason().text;
                }
            }};
            creel::this_fiber::sleep_for(1s);
            n.cancel("root");
        });
        native.join();
        CHECK(outside.now() - begin == 1s);
    });
    CHECK(outcome == "root");
}

TEST_CASE("a Boost fiber outlives the nursery it waited under and goes on") {
    std::string done;
    run_virtually([&] {
        boost::fibers::fiber native;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([] { creel::this_fiber::sleep_for(1s); });
            native = boost::fibers::fiber{[&] {
                static_cast<void>(creel::move_on_after(1h, [&] {
                    creel::this_fiber::sleep_for(10s);
                    creel::this_fiber::yield();
                    done = "done";
                }));
            }};
            boost::this_fiber::yield();
        });
        native.join();
    });
    CHECK(done == "done");
}

TEST_CASE("nurseries 10,000 deep are listed without running out of stack") {
    run_virtually([] {
        const int depth = under_tsan ? 2'000 : 10'000;
        std::string text;
        std::function<void(int)> open = [&](int left) {
            creel::with_nursery([&](creel::nursery& n) {
                if (left > 0)
                    n.spawn([&open, left] { open(left - 1); });
                else
                    text = creel::list_fibers();
            });
        };
        open(depth);
        CHECK(std::count(text.begin(), text.end(), '\n') == 1 + depth);
    });
}

TEST_CASE("a burst of fibers gives its memory back during the run") {
    run_virtually([](manual_poller&) {
        const int count = under_tsan ? 2'000 : 20'000;
        gate g;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < count; ++i)
                n.spawn([&] { g.pass(); });
            creel::this_fiber::sleep_for(1s);
            g.open();
        });
        for (int i = 0; i < 60; ++i)
            creel::this_fiber::sleep_for(10s);
        CHECK(creel::statistics().fibers_alive <= 100);
    });
}

TEST_CASE("slow tasks do not put timers off for thousands of tasks") {
    run_virtually([](manual_poller& outside) {
        int ran = 0;
        int ran_at_deadline = -1;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                creel::this_fiber::sleep_for(1ms);
                ran_at_deadline = ran;
            });
            for (int i = 0; i < 10'000; ++i)
                n.spawn([&] {
                    outside.advance(1ms);
                    ++ran;
                });
        });
        CHECK(ran_at_deadline >= 0);
        CHECK(ran_at_deadline <= 10'000);
        CHECK(outside.polls() >= 100);
    });
}

TEST_CASE("exit() inside a run is a clear error, not a hang") {
    const auto outcome = run_in_child([] { run_virtually([] { std::exit(0); }); }, 20s);
    CHECK(!outcome.timed_out);
    CHECK(outcome.stderr_text.find("exit() inside io::run") != std::string::npos);
}

TEST_CASE("ids are unique over threads, and main and Boost fibers have one") {
    std::vector<std::uint64_t> ids;
    auto collect = [&] {
        run_virtually([&] {
            ids.push_back(creel::this_fiber::id());
            boost::fibers::fiber{[&] { ids.push_back(creel::this_fiber::id()); }}.join();
        });
    };
    run_virtually([&] {
        ids.push_back(creel::this_fiber::id());
        std::thread{collect}.join();
    });
    REQUIRE(ids.size() == 3);
    CHECK(ids[0] != ids[1]);
    CHECK(ids[1] != ids[2]);
    CHECK(ids[0] != ids[2]);
}
