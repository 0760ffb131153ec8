#include <creel/sync/condition_variable.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/time_limit.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/sync/mutex.hpp>
#include <creel/sync/recursive_mutex.hpp>
#include <creel/sync/shared_mutex.hpp>

#include <atomic>
#include <chrono>
#include <mutex>
#include <shared_mutex>
#include <string>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::condition_variable;

TEMPLATE_TEST_CASE("a condition_variable works with any lock of ours", "",
                   std::unique_lock<creel::sync::mutex>,
                   std::unique_lock<creel::sync::recursive_mutex>,
                   std::unique_lock<creel::sync::shared_mutex>,
                   std::shared_lock<creel::sync::shared_mutex>) {
    bool went = false;
    const auto left = run_virtually([&] {
        typename TestType::mutex_type m;
        condition_variable changed;
        bool ready = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                TestType hold{m};
                changed.wait(hold, [&] { return ready; });
                went = hold.owns_lock();
            });
            creel::this_fiber::yield();
            CHECK(changed.statistics().waiting == 1);
            {
                const std::lock_guard hold{m}; // the waiter has released it
                changed.notify_one();          // too early
            }
            creel::this_fiber::yield();
            creel::this_fiber::yield();
            CHECK(!went);
            {
                const std::lock_guard hold{m};
                ready = true;
            }
            changed.notify_one();
        });
        CHECK(!m.statistics().locked);
    });
    CHECK(went);
    CHECK(left == nothing);
}

TEST_CASE("notify_one wakes the waiter that has waited longest and notify_all wakes all") {
    std::string order;
    const auto left = run_virtually([&] {
        creel::sync::mutex m;
        condition_variable changed;
        creel::with_nursery([&](creel::nursery& n) {
            for (char c : {'a', 'b', 'c'})
                n.spawn([&, c] {
                    std::unique_lock hold{m};
                    changed.wait(hold);
                    order += c;
                });
            creel::this_fiber::yield();
            changed.notify_one();
            creel::this_fiber::yield();
            CHECK(order == "a");
            changed.notify_all();
        });
    });
    CHECK(order == "abc");
    CHECK(left == nothing);
}

TEST_CASE("a cancelled wait for a condition holds its lock when it throws") {
    bool held = false;
    bool was_cancelled = false;
    const auto left = run_virtually([&] {
        creel::sync::mutex m;
        condition_variable changed;
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                was_cancelled = !scope.run([&] {
                    std::unique_lock hold{m};
                    try {
                        changed.wait(hold);
                    } catch (const creel::cancelled&) {
                        held = m.owned();
                        throw;
                    }
                });
            });
            creel::this_fiber::yield();
            m.lock();
            scope.cancel();
            creel::this_fiber::yield(); // it is withdrawn, and waits for the lock
            CHECK(!held);
            CHECK(m.statistics().waiting == 1);
            m.unlock();
        });
        CHECK(!m.statistics().locked);
    });
    CHECK(held);
    CHECK(was_cancelled);
    CHECK(left == nothing);
}

TEST_CASE("the wait for a condition is a cancellation point also when the condition holds") {
    bool passed = true;
    run_virtually([&] {
        creel::sync::mutex m;
        condition_variable changed;
        creel::cancel_scope scope;
        scope.cancel();
        passed = scope.run([&] {
            std::unique_lock hold{m};
            changed.wait(hold, [] { return true; });
        });
    });
    CHECK(!passed);
}

// userver's notify-versus-deadline: a waiter that consumes the notification must not report a
// timeout.
TEST_CASE("a notification that meets a deadline in the same instant is not lost") {
    bool first_notified = false;
    bool second_notified = false;
    const auto left = run_virtually([&](manual_poller& outside) {
        creel::sync::mutex m;
        condition_variable changed;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                creel::move_on_after(1s, [&] {
                    std::unique_lock hold{m};
                    changed.wait(hold);
                    first_notified = true;
                });
            });
            creel::this_fiber::yield();
            n.spawn([&] {
                std::unique_lock hold{m};
                changed.wait(hold);
                second_notified = true;
            });
            creel::this_fiber::yield();
            SECTION("the notification first: the one who was notified has it") {
                outside.advance(1s);
                changed.notify_one();
                creel::this_fiber::yield();
                CHECK(first_notified);
                CHECK(!second_notified);
                changed.notify_one();
            }
            SECTION("the deadline first: the next one has it") {
                outside.advance(1s);
                creel::this_fiber::sleep_for(1ns);
                changed.notify_one();
                creel::this_fiber::yield();
                CHECK(!first_notified);
                CHECK(second_notified);
            }
        });
    });
    CHECK(second_notified);
    CHECK(left == nothing);
}

TEST_CASE("a fiber does not give its thread away while it holds a std::mutex in wait") {
    std::string order;
    const auto left = run_virtually([&] {
        std::mutex m;
        condition_variable changed;
        bool ready = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                for (int budget = 0; budget < 200; ++budget) { // also when none is left
                    std::unique_lock hold{m};
                    changed.wait(hold, [] { return true; });
                }
                std::unique_lock hold{m};
                changed.wait(hold, [&] { return ready; });
                order += 'a';
            });
            n.spawn([&] {
                while (order.empty()) {
                    const bool is_free = m.try_lock();
                    CHECK(is_free);
                    ready = true;
                    m.unlock();
                    changed.notify_one();
                    creel::this_fiber::yield();
                }
            });
        });
    });
    CHECK(order == "a");
    CHECK(left == nothing);
}

TEST_CASE("a condition that always holds starves no fiber") {
    bool other_ran = false;
    const auto left = run_virtually([&] {
        creel::sync::mutex m;
        condition_variable changed;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { other_ran = true; });
            for (int i = 0; i < 10'000 && !other_ran; ++i) {
                std::unique_lock hold{m};
                changed.wait(hold, [] { return true; });
            }
            CHECK(other_ran);
        });
    });
    CHECK(left == nothing);
}

TEST_CASE("a wait for a condition lets go of one level of a recursive_mutex") {
    const auto left = run_virtually([] {
        creel::sync::recursive_mutex m;
        condition_variable changed;
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const std::lock_guard outer{m};
                const bool went = scope.run([&] {
                    std::unique_lock inner{m};
                    changed.wait(inner);
                });
                CHECK(!went);
                CHECK(m.owned());
            });
            creel::this_fiber::yield();
            CHECK(changed.statistics().waiting == 1);
            const bool locked = m.try_lock();
            CHECK(!locked);
            scope.cancel();
        });
        CHECK(!m.statistics().locked);
    });
    CHECK(left == nothing);
}

TEST_CASE("stress: every notification reaches one of fibers and plain threads despite deadlines",
          "[stress]") {
    creel::sync::mutex m;
    condition_variable changed;
    condition_variable consumed;
    int available = 0; // guarded by m
    bool done = false; // likewise
    std::atomic<int> taken{0};
    const auto consume = [&](crowd_member& me) {
        for (bool go_on = true; go_on;)
            creel::move_on_after(std::chrono::microseconds{me.random() % 50}, [&] {
                std::unique_lock hold{m};
                changed.wait(hold, [&] { return available > 0 || done; });
                go_on = available > 0;
                if (go_on) {
                    --available;
                    ++taken;
                    consumed.notify_one();
                }
            });
    };
    crowd consumers{"condition_variable stress",
                    {.fibers_each = 3, .plain_threads = 1, .virtual_time = true},
                    consume};
    const time_limit limit{500ms}; // a convoy at the mutex may take longer
    int items = 0;
    bool in_time = true; // false: a notification was lost
    const auto wait_for = [&](auto condition) {
        std::unique_lock hold{m};
        in_time = creel::move_on_after(20s, [&] { consumed.wait(hold, condition); }) && in_time;
        return hold;
    };
    while (in_time && goes_on(items, 20'000, limit)) {
        const auto hold = wait_for([&] { return available < 4; });
        ++items;
        ++available;
        changed.notify_one();
    }
    {
        const auto hold = wait_for([&] { return available == 0; });
        done = true;
    }
    changed.notify_all();
    consumers.join();
    CHECK(in_time);
    CHECK(items > 0);
    CHECK(taken == items);
}
