#include <creel/sync/event.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/sanitizers.hpp"
#include "support/seed.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <csignal>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::event;

TEST_CASE("a manual event lets everybody through until it is reset") {
    int through = 0;
    const auto left = run_virtually([&] {
        event e;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&] {
                    e.wait();
                    ++through;
                });
            creel::this_fiber::yield();
            CHECK(through == 0);
            CHECK(e.statistics().waiting == 3);
            e.set();
            CHECK(e.is_set());
        });
        e.wait();
        const bool passed = e.try_wait();
        CHECK(passed);
        e.reset();
        const bool passed_again = e.try_wait();
        CHECK(!passed_again);
    });
    CHECK(through == 3);
    CHECK(left == nothing);
}

TEST_CASE("a reset right behind a set holds back nobody who waited") {
    bool through = false;
    const auto left = run_virtually([&] {
        event e;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                e.wait();
                through = true;
            });
            creel::this_fiber::yield();
            e.set();
            e.reset();
        });
        CHECK(!e.is_set());
    });
    CHECK(through);
    CHECK(left == nothing);
}

TEST_CASE("an automatic event lets one through for each set and keeps one that finds nobody") {
    std::string order;
    const auto left = run_virtually([&] {
        event e{event::automatic};
        e.set();
        e.set(); // it is set already
        e.wait();
        CHECK(!e.is_set());
        creel::with_nursery([&](creel::nursery& n) {
            for (char c : {'a', 'b'})
                n.spawn([&, c] {
                    e.wait();
                    order += c;
                });
            creel::this_fiber::yield();
            e.set();
            creel::this_fiber::yield();
            CHECK(order == "a");
            e.set();
        });
        CHECK(!e.is_set());
    });
    CHECK(order == "ab");
    CHECK(left == nothing);
}

TEST_CASE("a set of an automatic event goes to the next when the first waiter is cancelled") {
    bool through = false;
    const auto left = run_virtually([&] {
        event e{event::automatic};
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { scope.run([&] { e.wait(); }); });
            n.spawn([&] {
                e.wait();
                through = true;
            });
            creel::this_fiber::yield();
            scope.cancel();
            e.set();
        });
        CHECK(!e.is_set());
    });
    CHECK(through);
    CHECK(left == nothing);
}

TEST_CASE("a waiter that an automatic event let through before its cancel has used it up") {
    bool first = false;
    bool second = false;
    const auto left = run_virtually([&] {
        event e{event::automatic};
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                scope.run([&] {
                    e.wait();
                    first = true;
                });
            });
            n.spawn([&] {
                e.wait();
                second = true;
            });
            creel::this_fiber::yield();
            e.set();
            scope.cancel();
            creel::this_fiber::yield();
            CHECK(!second);
            e.set();
        });
    });
    CHECK(first);
    CHECK(second);
    CHECK(left == nothing);
}

TEST_CASE("the wait for a set event is a cancellation point and does not use it up") {
    bool passed = true;
    run_virtually([&] {
        event e{event::automatic};
        e.set();
        creel::cancel_scope scope;
        scope.cancel();
        passed = scope.run([&] { e.wait(); });
        CHECK(e.is_set());
    });
    CHECK(!passed);
}

TEST_CASE("an event wakes a plain thread and a plain thread wakes a fiber") {
    int passed = 0;
    event to_thread;
    event to_fiber;
    std::thread plain{[&] {
        to_thread.wait();
        to_fiber.set();
    }};
    run_virtually(
        [&] {
            to_thread.set();
            to_fiber.wait();
            ++passed;
        },
        {}, manual_poller::other_threads::yes);
    plain.join();
    CHECK(passed == 1);
}

TEST_CASE("a plain thread's wait for an event ends with the deadline of its scope") {
    event never;
    const bool passed = creel::move_on_after(1ms, [&] { never.wait(); });
    CHECK(!passed);
    CHECK(never.statistics().waiting == 0);
}

TEST_CASE("an event destroyed while somebody waits is caught") {
    const auto outcome = run_in_child([] {
        run_virtually([] {
            creel::with_nursery([&](creel::nursery& n) {
                event e;
                n.spawn([&] { e.wait(); });
                creel::this_fiber::yield();
            });
        });
    });
    INFO(to_string(outcome));
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("event made at ") != std::string::npos);
    CHECK(outcome.stderr_text.find("event_test.cpp:") != std::string::npos);
}

TEST_CASE("stress: each set of an automatic event lets exactly one through despite deadlines",
          "[stress]") {
    const auto seed = printed_seed("event stress");
    // Each takes about a turn of the threads, which all keep their cores busy.
    const int sets = under_tsan ? 500 : 2'000;
    event e{event::automatic};
    std::atomic<int> through{0};
    std::atomic<bool> done{false};
    auto wait = [&](unsigned salt) {
        std::minstd_rand random{seed + salt};
        while (!done.load())
            creel::move_on_after(std::chrono::microseconds{random() % 50}, [&] {
                e.wait();
                through.fetch_add(1);
            });
    };
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 2; ++t)
        threads.emplace_back([&, t] {
            run_virtually(
                [&] {
                    creel::with_nursery([&](creel::nursery& n) {
                        for (unsigned i = 0; i < 3; ++i)
                            n.spawn([&, i] { wait(10 * t + i); });
                    });
                },
                {}, manual_poller::other_threads::yes);
        });
    threads.emplace_back([&] { wait(100); });
    const auto patience = std::chrono::steady_clock::now() + 60s; // then one was lost
    const auto is_late = [&] { return std::chrono::steady_clock::now() > patience; };
    for (int i = 0; i < sets && !is_late(); ++i) {
        e.set();
        while (through.load() != i + 1 && !is_late())
            std::this_thread::yield();
    }
    done.store(true);
    for (std::thread& t : threads)
        t.join();
    CHECK(through.load() == sets);
}

TEST_CASE("stress: whoever an event lets through may destroy it at once", "[stress]") {
    int rounds = 0;
    for (int i = 0; i < 2'000; ++i) {
        auto e = std::make_unique<event>();
        std::thread setter{[shared = e.get()] { shared->set(); }};
        e->wait();
        e.reset();
        setter.join();
        ++rounds;
    }
    CHECK(rounds == 2'000);
}
