#include <creel/sync/rate_limiter.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/sanitizers.hpp"
#include "support/seed.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <csignal>
#include <random>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::rate_limiter;

TEST_CASE("a rate_limiter lets a burst through at once and then one at a time at its rate") {
    std::vector<creel::duration> times;
    const auto left = run_virtually([&](manual_poller& outside) {
        rate_limiter limit{{.tokens = 10, .per = 1s, .burst = 3}};
        const auto begin = outside.now();
        for (int i = 0; i < 6; ++i) {
            limit.acquire();
            times.push_back(outside.now() - begin);
        }
        CHECK(limit.statistics().granted == 6);
        CHECK(limit.statistics().waited == 3);
    });
    CHECK(times == std::vector<creel::duration>{0ns, 0ns, 0ns, 100ms, 200ms, 300ms});
    CHECK(left == nothing);
}

TEST_CASE("tokens that nobody takes are saved up to the burst and no further") {
    run_virtually([](manual_poller& outside) {
        rate_limiter limit{{.tokens = 10, .per = 1s, .burst = 3}};
        outside.advance(1h);
        CHECK(limit.statistics().available == 3);
        const bool three = limit.try_acquire(3);
        CHECK(three);
        outside.advance(199ms);
        const bool two = limit.try_acquire(2);
        CHECK(!two);
        outside.advance(1ms);
        const bool two_now = limit.try_acquire(2);
        CHECK(two_now);
    });
}

TEST_CASE("a rate that does not divide a nanosecond does not drift over a day") {
    creel::duration took{};
    constexpr int per_second = 7;
    constexpr int seconds = under_tsan || under_asan ? 3'600 : 86'400;
    const auto left = run_virtually([&](manual_poller& outside) {
        rate_limiter limit{{.tokens = per_second, .per = 1s, .burst = 1}};
        limit.acquire(); // the one it begins with
        const auto begin = outside.now();
        for (int i = 0; i < per_second * seconds; ++i)
            limit.acquire();
        took = outside.now() - begin;
    });
    CHECK(took == std::chrono::seconds{seconds});
    CHECK(left == nothing);
}

TEST_CASE("waiters that are served late do not slow the rate down") {
    creel::duration took{};
    const auto left = run_virtually([&](manual_poller& outside) {
        rate_limiter limit{{.tokens = 1'000, .per = 1s, .burst = 1}};
        limit.acquire();
        const auto begin = outside.now();
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 4; ++i)
                n.spawn([&] {
                    for (int k = 0; k < 250; ++k) {
                        limit.acquire();
                        outside.advance(300us); // the clock has moved on before anybody is served
                    }
                });
        });
        took = outside.now() - begin;
    });
    CHECK(took >= 1s);
    CHECK(took < 1s + 4ms); // 1.3 s if each waited its full time after the one before was served
    CHECK(left == nothing);
}

TEST_CASE("who asks for many tokens is not overtaken and may ask for more than the burst") {
    std::string order;
    std::vector<creel::duration> times;
    const auto left = run_virtually([&](manual_poller& outside) {
        rate_limiter limit{{.tokens = 10, .per = 1s, .burst = 2}};
        limit.acquire(2);
        const auto begin = outside.now();
        creel::with_nursery([&](creel::nursery& n) {
            const auto take = [&](char name, int count) {
                n.spawn([&, name, count] {
                    limit.acquire(count);
                    order += name;
                    times.push_back(outside.now() - begin);
                });
            };
            take('L', 5);
            take('a', 1);
            take('b', 2);
            creel::this_fiber::yield();
            CHECK(limit.statistics().waiting == 3);
            const bool barged = limit.try_acquire(0);
            CHECK(!barged);
        });
    });
    CHECK(order == "Lab");
    CHECK(times == std::vector<creel::duration>{500ms, 600ms, 800ms});
    CHECK(left == nothing);
}

TEST_CASE("a cancelled request takes no token whether it was first or behind") {
    std::string order;
    std::vector<creel::duration> times;
    const auto left = run_virtually([&](manual_poller& outside) {
        rate_limiter limit{{.tokens = 10, .per = 1s, .burst = 1}};
        limit.acquire();
        const auto begin = outside.now();
        creel::cancel_scope first;
        creel::cancel_scope behind;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { first.run([&] { limit.acquire(50); }); });
            n.spawn([&] { behind.run([&] { limit.acquire(20); }); });
            for (char c : {'a', 'b'})
                n.spawn([&, c] {
                    limit.acquire();
                    order += c;
                    times.push_back(outside.now() - begin);
                });
            creel::this_fiber::sleep_for(50ms);
            behind.cancel();
            first.cancel();
        });
        CHECK(limit.statistics().granted == 3);
    });
    CHECK(order == "ab");
    CHECK(times == std::vector<creel::duration>{100ms, 200ms});
    CHECK(left == nothing);
}

TEST_CASE("a new rate holds for those who wait already") {
    creel::duration at{};
    const auto left = run_virtually([&](manual_poller& outside) {
        rate_limiter limit{{.tokens = 1, .per = 1h, .burst = 1}};
        limit.acquire();
        const auto begin = outside.now();
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                limit.acquire();
                at = outside.now() - begin;
            });
            creel::this_fiber::sleep_for(30min); // half a token
            limit.set_rate({.tokens = 1, .per = 1s, .burst = 1});
        });
    });
    CHECK(at == 30min + 500ms);
    CHECK(left == nothing);
}

TEST_CASE("acquire of a rate_limiter is a cancellation point also when tokens are there") {
    bool passed = true;
    run_virtually([&] {
        rate_limiter limit{{.tokens = 1, .per = 1s, .burst = 1}};
        creel::cancel_scope scope;
        scope.cancel();
        passed = scope.run([&] { limit.acquire(); });
        CHECK(limit.statistics().available == 1);
    });
    CHECK(!passed);
}

TEST_CASE("a rate of nothing and a negative request are caught") {
    const auto no_rate = run_in_child([] { rate_limiter limit{{.tokens = 0}}; });
    CHECK(no_rate.signal == SIGABRT);
    CHECK(no_rate.stderr_text.find("rate_limiter made at ") != std::string::npos);
    const auto negative = run_in_child([] { rate_limiter{creel::sync::rate{}}.acquire(-1); });
    CHECK(negative.signal == SIGABRT);
}

TEST_CASE("stress: fibers and plain threads get no more tokens than have come", "[stress]") {
    const auto seed = printed_seed("rate_limiter stress");
    constexpr std::int64_t per_ms = 100;
    constexpr std::int64_t burst = 10;
    const int rounds = under_tsan ? 200 : 1'000;
    const auto begin = std::chrono::steady_clock::now();
    rate_limiter limit{{.tokens = per_ms, .per = 1ms, .burst = burst}};
    std::atomic<std::int64_t> taken{0};
    auto work = [&](unsigned salt) {
        std::minstd_rand random{seed + salt};
        for (int i = 0; i < rounds; ++i)
            creel::move_on_after(std::chrono::microseconds{random() % 200}, [&] {
                const auto count = static_cast<std::int64_t>(random() % 4);
                limit.acquire(count);
                taken.fetch_add(count);
            });
    };
    std::vector<std::thread> threads;
    for (unsigned t = 0; t < 4; ++t)
        threads.emplace_back([&, t] { work(t); });
    for (std::thread& t : threads)
        t.join();
    const auto elapsed = std::chrono::steady_clock::now() - begin;
    CHECK(taken.load() <= burst + (elapsed / 1us + 1) * per_ms / 1000 + 1);
    CHECK(limit.statistics().granted == static_cast<std::uint64_t>(taken.load()));
    CHECK(limit.statistics().waiting == 0);
}

TEST_CASE("a large request that is cancelled does not leave more than a burst to those behind it") {
    std::vector<creel::duration> times;
    const auto left = run_virtually([&](manual_poller& outside) {
        rate_limiter limit{{.tokens = 1, .per = 1s, .burst = 2}};
        limit.acquire(2);
        const auto begin = outside.now();
        creel::cancel_scope large;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { CHECK(!large.run([&] { limit.acquire(100); })); });
            creel::this_fiber::yield();
            for (int i = 0; i < 4; ++i)
                n.spawn([&] {
                    limit.acquire();
                    times.push_back(outside.now() - begin);
                });
            creel::this_fiber::sleep_for(50s);
            large.cancel();
        });
    });
    CHECK(times == std::vector<creel::duration>{50s, 50s, 51s, 52s});
    CHECK(left == nothing);
}
