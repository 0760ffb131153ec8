// One suite for everything that locks exclusively. A cancel in the instant of a hand-over is in
// cancel_race_test.cpp.
#include <creel/sync/mutex.hpp>
#include <creel/sync/recursive_mutex.hpp>
#include <creel/sync/shared_mutex.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/relay.hpp"
#include "support/time_limit.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::mutex;
using creel::sync::recursive_mutex;
using creel::sync::shared_mutex;

TEMPLATE_TEST_CASE("a free mutex is locked without waiting", "", mutex, recursive_mutex,
                   shared_mutex) {
    run_virtually([] {
        TestType m;
        CHECK(!m.statistics().locked);
        m.lock();
        CHECK(m.statistics().locked);
        CHECK(m.owned());
        m.unlock();
        CHECK(!m.owned());
        const bool locked = m.try_lock();
        CHECK(locked);
        m.unlock();
        m.lock_cancellable();
        m.unlock();
        CHECK(!m.statistics().locked);
        CHECK(m.statistics().contended == 0);
    });
}

TEMPLATE_TEST_CASE("the lock adaptors of std work with a mutex of ours", "", mutex, recursive_mutex,
                   shared_mutex) {
    run_virtually([] {
        TestType a;
        TestType b;
        {
            const std::lock_guard hold{a};
            CHECK(a.owned());
        }
        {
            const std::scoped_lock hold{a, b};
            CHECK(b.owned());
        }
        {
            std::unique_lock hold{a, std::try_to_lock};
            CHECK(hold.owns_lock());
            hold.unlock();
            hold.lock();
        }
        {
            a.lock_cancellable();
            const std::lock_guard hold{a, std::adopt_lock};
        }
        CHECK(!a.statistics().locked);
        CHECK(!b.statistics().locked);
    });
}

TEMPLATE_TEST_CASE("a mutex is handed over first come first served", "", mutex, recursive_mutex,
                   shared_mutex) {
    std::string order;
    const auto left = run_virtually([&] {
        TestType m;
        m.lock();
        creel::with_nursery([&](creel::nursery& n) {
            for (char c : {'a', 'b', 'c'})
                n.spawn([&, c] {
                    const std::lock_guard hold{m};
                    order += c;
                    creel::this_fiber::yield();
                    order += c;
                });
            creel::this_fiber::yield();
            CHECK(m.statistics().waiting == 3);
            m.unlock();
        });
        CHECK(m.statistics().contended == 3);
    });
    CHECK(order == "aabbcc");
    CHECK(left == nothing);
}

// Trio's lock hand-over: the lock belongs to the next waiter from the release on, before that
// waiter runs, so that neither the releaser nor a newcomer barges in.
TEMPLATE_TEST_CASE("a caller that unlocks a mutex cannot have it back before the waiter", "", mutex,
                   recursive_mutex, shared_mutex) {
    std::string order;
    const auto left = run_virtually([&] {
        TestType m;
        m.lock();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const std::lock_guard hold{m};
                order += "waiter ";
            });
            creel::this_fiber::yield();
            m.unlock();
            CHECK(m.statistics().locked);
            CHECK(!m.owned());
            const bool barged = m.try_lock();
            CHECK(!barged);
            const std::lock_guard hold{m};
            order += "unlocker";
        });
    });
    CHECK(order == "waiter unlocker");
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("a cancelled fiber still locks and waits for a mutex", "", mutex,
                   recursive_mutex, shared_mutex) {
    bool held = false;
    bool left_by_cancel = false;
    const auto left = run_virtually([&] {
        TestType m;
        m.lock();
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                left_by_cancel = !scope.run([&] {
                    const std::lock_guard hold{m};
                    held = true;
                    creel::this_fiber::yield();
                });
            });
            creel::this_fiber::yield();
            scope.cancel();
            creel::this_fiber::yield();
            CHECK(!held);
            m.unlock();
        });
        CHECK(!m.statistics().locked);
    });
    CHECK(held);
    CHECK(left_by_cancel);
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("a cancelled lock_cancellable does not hold the mutex and the next one gets it",
                   "", mutex, recursive_mutex, shared_mutex) {
    bool first_held = false;
    bool second_held = false;
    const auto left = run_virtually([&] {
        TestType m;
        m.lock();
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                scope.run([&] {
                    m.lock_cancellable();
                    first_held = true;
                });
            });
            n.spawn([&] {
                const std::lock_guard hold{m};
                second_held = true;
            });
            creel::this_fiber::yield();
            scope.cancel();
            CHECK(m.statistics().waiting == 1);
            m.unlock();
        });
        CHECK(!m.statistics().locked);
    });
    CHECK(!first_held);
    CHECK(second_held);
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("lock_cancellable is a cancellation point also when the mutex is free", "",
                   mutex, recursive_mutex, shared_mutex) {
    bool passed = true;
    run_virtually([&] {
        TestType m;
        creel::cancel_scope scope;
        scope.cancel();
        passed = scope.run([&] { m.lock_cancellable(); });
        CHECK(!m.statistics().locked);
    });
    CHECK(!passed);
}

TEMPLATE_TEST_CASE("stress: a mutex has one owner among fibers of two threads and plain threads",
                   "[stress]", mutex, recursive_mutex, shared_mutex) {
    TestType m;
    std::uint64_t entries = 0; // guarded by m; TSan and the sum would tell
    std::atomic<std::uint64_t> expected{0};
    const auto enter = [&] {
        ++entries;
        ++expected;
    };
    const auto in_turn = [&](crowd_member& me) {
        const auto choice = me.random() % 4;
        if (choice == 0) {
            creel::move_on_after(std::chrono::microseconds{me.random() % 20}, [&] {
                m.lock_cancellable();
                enter();
                m.unlock();
            });
        } else if (choice == 1) {
            if (m.try_lock()) {
                enter();
                m.unlock();
            }
        } else {
            const std::lock_guard hold{m};
            const auto before = entries;
            if (me.is_fiber && choice == 2)
                creel::this_fiber::yield();
            entries = before + 1;
            ++expected;
        }
    };
    run_crowd("mutex stress", {.virtual_time = true}, [&](crowd_member& me) {
        for (int i = 0; me.goes_on(i, 5'000); ++i)
            in_turn(me);
    });
    CHECK(entries > 0);
    CHECK(entries == expected);
    CHECK(!m.statistics().locked);
    CHECK(m.statistics().waiting == 0);
}

TEMPLATE_TEST_CASE("stress: the next owner of a mutex may destroy it at once", "[stress]", mutex,
                   recursive_mutex, shared_mutex) {
    relay<TestType> mutexes;
    std::atomic<int> locked{0};
    const auto lock_each = [&](crowd_member&) {
        mutexes.for_each([&](TestType& m) {
            m.lock();
            ++locked;
            m.unlock();
        });
    };
    crowd other{"mutex destruction stress", {.schedulers = 0, .plain_threads = 1}, lock_each};
    const time_limit limit{1s};
    int rounds = 0;
    while (goes_on(rounds, 10'000, limit)) {
        const auto m = std::make_unique<TestType>();
        mutexes.pass_on(*m);
        ++rounds;
        while (locked != rounds)
            std::this_thread::yield();
        m->lock();
        m->unlock();
    }
    mutexes.end();
    other.join();
    CHECK(rounds > 0);
}
