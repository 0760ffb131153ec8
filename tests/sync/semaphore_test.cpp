#include <creel/sync/semaphore.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/occupancy.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <utility>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::semaphore;

TEST_CASE("a semaphore lets in as many as it has permits") {
    int inside = 0;
    int most = 0;
    const auto left = run_virtually([&] {
        semaphore s{3};
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 10; ++i)
                n.spawn([&] {
                    const auto permit = s.hold();
                    most = std::max(most, ++inside);
                    creel::this_fiber::sleep_for(1s);
                    --inside;
                });
        });
        CHECK(s.statistics().available == 3);
        CHECK(s.statistics().waited == 7);
    });
    CHECK(most == 3);
    CHECK(left == nothing);
}

TEST_CASE("small requests do not barge past a large one") {
    std::string order;
    const auto left = run_virtually([&] {
        semaphore s{4};
        s.acquire(2);
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const auto permit = s.hold(4);
                order += "L";
            });
            for (char c : {'a', 'b'})
                n.spawn([&, c] {
                    const auto permit = s.hold();
                    order += c;
                });
            creel::this_fiber::yield();
            const bool barged = s.try_acquire();
            CHECK(!barged);
            CHECK(s.statistics().waiting == 3);
            s.release();
            creel::this_fiber::yield();
            CHECK(order.empty());
            s.release();
        });
        CHECK(s.statistics().available == 4);
    });
    CHECK(order == "Lab");
    CHECK(left == nothing);
}

TEST_CASE("a large request that is cancelled lets the small ones behind it go") {
    std::string order;
    const auto left = run_virtually([&] {
        semaphore s{4};
        s.acquire(2);
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { scope.run([&] { s.acquire(4); }); });
            for (char c : {'a', 'b', 'c'})
                n.spawn([&, c] {
                    s.acquire();
                    order += c;
                });
            creel::this_fiber::yield();
            scope.cancel();
            creel::this_fiber::yield();
            CHECK(order == "ab");
            s.release();
        });
        CHECK(order == "abc");
        CHECK(s.statistics().available == 0);
    });
    CHECK(left == nothing);
}

TEST_CASE("a permit given to a waiter that is cancelled in the same instant is not lost") {
    bool held = false;
    const auto left = run_virtually([&] {
        semaphore s{1};
        s.acquire();
        creel::cancel_scope scope;
        SECTION("the release first: it holds the permit, and gives it back") {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    scope.run([&] {
                        const auto permit = s.hold();
                        held = true;
                        creel::this_fiber::yield();
                    });
                });
                creel::this_fiber::yield();
                s.release();
                scope.cancel();
            });
            CHECK(held);
        }
        SECTION("the cancel first: the next one holds it") {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { scope.run([&] { s.acquire(); }); });
                n.spawn([&] {
                    const auto permit = s.hold();
                    held = true;
                });
                creel::this_fiber::yield();
                scope.cancel();
                s.release();
            });
            CHECK(held);
        }
        CHECK(s.statistics().available == 1);
    });
    CHECK(left == nothing);
}

TEST_CASE("acquire is a cancellation point also when a permit is free") {
    bool passed = true;
    run_virtually([&] {
        semaphore s{1};
        creel::cancel_scope scope;
        scope.cancel();
        passed = scope.run([&] { s.acquire(); });
        CHECK(s.statistics().available == 1);
    });
    CHECK(!passed);
}

TEST_CASE("a semaphore that grows lets waiters in and one that shrinks keeps releases back") {
    int inside = 0;
    const auto left = run_virtually([&] {
        semaphore s{1};
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 4; ++i)
                n.spawn([&] {
                    s.acquire();
                    ++inside;
                });
            creel::this_fiber::yield();
            CHECK(inside == 1);
            s.resize(3);
            creel::this_fiber::yield();
            CHECK(inside == 3);
            s.resize(1);
            CHECK(s.statistics().available == -2);
            s.release(2);
            creel::this_fiber::yield();
            CHECK(inside == 3);
            s.release();
            creel::this_fiber::yield();
            CHECK(inside == 4);
            s.release();
        });
        CHECK(s.statistics().available == 1);
        CHECK(s.statistics().permits == 1);
    });
    CHECK(left == nothing);
}

TEST_CASE("a permit goes back once: by itself or by release or from where it was moved to") {
    run_virtually([] {
        semaphore s{5};
        {
            auto a = s.hold(2);
            CHECK(a.count() == 2);
            auto b = std::move(a);
            CHECK(a.count() == 0); // NOLINT(bugprone-use-after-move): the state of a moved permit
            CHECK(s.statistics().available == 3);
            b.release();
            b.release();
            CHECK(s.statistics().available == 5);
            b = s.hold(1);
            auto c = s.try_hold(4);
            CHECK(c.has_value());
            auto d = s.try_hold();
            CHECK(!d.has_value());
        }
        CHECK(s.statistics().available == 5);
    });
}

TEST_CASE("a semaphore made with fewer permits than its limit signals by release") {
    std::string order;
    const auto left = run_virtually([&] {
        semaphore arrived{0, 3};
        CHECK(arrived.statistics().permits == 3);
        CHECK(arrived.statistics().available == 0);
        const bool none = arrived.try_acquire();
        CHECK(!none);
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                arrived.acquire();
                order += 'a';
                arrived.acquire(2);
                order += 'b';
            });
            creel::this_fiber::yield();
            arrived.release();
            creel::this_fiber::yield();
            CHECK(order == "a");
            arrived.release(3); // permits that were taken may come again
        });
        CHECK(order == "ab");
        CHECK(arrived.statistics().available == 1);
        {
            const auto one = arrived.try_hold();
            CHECK(one.has_value());
        }
        CHECK(arrived.statistics().available == 1); // a permit goes back as any other
        arrived.resize(5);
        CHECK(arrived.statistics().available == 3);
    });
    CHECK(left == nothing);
}

TEST_CASE("a semaphore without a limit in practice counts without overflow") {
    semaphore s{0, semaphore::max()};
    s.release(semaphore::max());
    CHECK(s.statistics().available == semaphore::max());
    const bool all = s.try_acquire(semaphore::max());
    CHECK(all);
    s.resize(0);
    CHECK(s.statistics().available == -semaphore::max());
    s.resize(semaphore::max());
    CHECK(s.statistics().available == 0);
    s.release(1);
    s.release(semaphore::max() - 1);
    CHECK(s.statistics().available == semaphore::max());
}

TEST_CASE(
    "a permit that is moved onto itself is kept, and one moved over another gives that back") {
    semaphore s{5};
    semaphore other{1};
    {
        auto a = s.hold(2);
        auto& same = a;
        a = std::move(same);
        CHECK(a.count() == 2);
        CHECK(s.statistics().available == 3);
        auto b = other.hold();
        b = std::move(a);
        CHECK(b.count() == 2);
        CHECK(other.statistics().available == 1);
        b.release();
        auto& empty = b;
        b = std::move(empty);
        CHECK(b.count() == 0);
    }
    CHECK(s.statistics().available == 5);
}

TEST_CASE("stress: permits never exceed the limit with fibers and plain threads and cancels",
          "[stress]") {
    constexpr int limit = 5;
    semaphore s{limit};
    occupancy held{limit};
    std::atomic<int> times{0};
    const auto hold_some = [&](crowd_member& me) {
        const auto count = static_cast<int>(me.random() % limit) + 1;
        creel::move_on_after(std::chrono::microseconds{me.random() % 100}, [&] {
            const auto permit = s.hold(count);
            const occupancy::stay mine{held, count};
            ++times;
            if (me.random() % 4 == 0)
                std::this_thread::yield();
        });
    };
    run_crowd("semaphore stress", {.virtual_time = true}, [&](crowd_member& me) {
        for (int i = 0; me.goes_on(i, 3'000); ++i)
            hold_some(me);
    });
    CHECK(times > 0);
    CHECK(held.violations() == 0);
    CHECK(s.statistics().available == limit);
    CHECK(s.statistics().waiting == 0);
}
