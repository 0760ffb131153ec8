#include <creel/sync/semaphore.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/sanitizers.hpp"
#include "support/seed.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>

#include <catch2/catch.hpp>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

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
            CHECK(a.count() == 0); // NOLINT(bugprone-use-after-move): what a moved permit says
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

TEST_CASE("misuse of a semaphore is caught and names it") {
    std::string text;
    const auto aborts = [&](auto misuse) {
        const auto outcome = run_in_child(misuse);
        text = to_string(outcome);
        return outcome.signal == SIGABRT && text.find("semaphore made at ") != std::string::npos &&
               text.find("semaphore_test.cpp:") != std::string::npos;
    };
    const bool negative = aborts([] { semaphore s{-1}; });
    INFO(text);
    CHECK(negative);
    const bool released_too_often = aborts([] { semaphore{1}.release(); });
    INFO(text);
    CHECK(released_too_often);
    const bool acquired_less_than_none = aborts([] { semaphore{1}.acquire(-1); });
    INFO(text);
    CHECK(acquired_less_than_none);
    const bool shrunk_below_none = aborts([] { semaphore{1}.resize(-1); });
    INFO(text);
    CHECK(shrunk_below_none);
}

TEST_CASE("stress: permits never exceed the limit with fibers and plain threads and cancels",
          "[stress]") {
    const auto seed = printed_seed("semaphore stress");
    const int rounds = under_tsan ? 400 : 3'000;
    constexpr int limit = 5;
    semaphore s{limit};
    std::atomic<int> held{0};
    std::atomic<int> exceeded{0};
    auto work = [&](unsigned salt) {
        std::minstd_rand random{seed + salt};
        for (int i = 0; i < rounds; ++i) {
            const auto count = static_cast<int>(random() % limit) + 1;
            creel::move_on_after(std::chrono::microseconds{random() % 100}, [&] {
                const auto permit = s.hold(count);
                if (held.fetch_add(count) + count > limit)
                    exceeded.fetch_add(1);
                if (random() % 4 == 0)
                    std::this_thread::yield();
                held.fetch_sub(count);
            });
        }
    };
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 2; ++t)
        threads.emplace_back([&, t] {
            run_virtually(
                [&] {
                    creel::with_nursery([&](creel::nursery& n) {
                        for (unsigned i = 0; i < 4; ++i)
                            n.spawn([&, i] { work(10 * t + i); });
                    });
                },
                {}, manual_poller::other_threads::yes);
        });
    for (unsigned t = 0; t < 2; ++t)
        threads.emplace_back([&, t] { work(100 + t); });
    for (std::thread& t : threads)
        t.join();
    CHECK(exceeded.load() == 0);
    CHECK(s.statistics().available == limit);
    CHECK(s.statistics().waiting == 0);
}
