#include <creel/sync/event.hpp>

#include "support/becomes_true.hpp"
#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/relay.hpp"
#include "support/time_limit.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <memory>
#include <string>
#include <thread>

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

TEST_CASE("a reset right after a set holds back no waiter") {
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

TEST_CASE(
    "an automatic event lets one waiter through for each set and keeps a set without a waiter") {
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

TEST_CASE("stress: each set of an automatic event lets exactly one through despite deadlines",
          "[stress]") {
    event e{event::automatic};
    std::atomic<int> through{0};
    std::atomic<bool> done{false};
    const auto wait = [&](crowd_member& me) {
        while (!done)
            creel::move_on_after(std::chrono::microseconds{me.random() % 50}, [&] {
                e.wait();
                ++through;
            });
    };
    crowd waiters{
        "event stress", {.fibers_each = 3, .plain_threads = 1, .virtual_time = true}, wait};
    // Each takes about one turn of the threads, which all keep their cores busy.
    const time_limit limit{1s};
    int sets = 0;
    bool came_through = true;
    while (came_through && goes_on(sets, 2'000, limit)) {
        ++sets;
        e.set();
        came_through = becomes_true([&] { return through == sets; });
    }
    done = true;
    waiters.join();
    CHECK(came_through);
    CHECK(sets > 0);
    CHECK(through == sets);
}

TEST_CASE("stress: a waiter that an event lets through may destroy it at once", "[stress]") {
    relay<event> events;
    const auto set_each = [&](crowd_member&) { events.for_each([](event& e) { e.set(); }); };
    crowd setter{"event destruction stress", {.schedulers = 0, .plain_threads = 1}, set_each};
    const time_limit limit{1s};
    int rounds = 0;
    for (; goes_on(rounds, 10'000, limit); ++rounds) {
        const auto e = std::make_unique<event>();
        events.pass_on(*e);
        e->wait();
    }
    events.end();
    setter.join();
    CHECK(rounds > 0);
}
