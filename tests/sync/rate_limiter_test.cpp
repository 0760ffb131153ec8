#include <creel/sync/rate_limiter.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
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

TEST_CASE("tokens that are not taken are saved up to the burst and no further") {
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
        limit.acquire(); // the token it begins with
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
                        outside.advance(300us); // the clock moves on before a waiter is served
                    }
                });
        });
        took = outside.now() - begin;
    });
    CHECK(took >= 1s);
    CHECK(took < 1s + 4ms); // 1.3 s if each waited its full time after the one before it
    CHECK(left == nothing);
}

TEST_CASE(
    "a caller that asks for many tokens is not overtaken and may ask for more than the burst") {
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

TEST_CASE("a new rate holds for callers that wait already") {
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

TEST_CASE("a token in more than 292 years never comes, and a new rate keeps those that are there") {
    const auto left = run_virtually([] {
        rate_limiter limit{{.tokens = 1, .per = std::chrono::hours::max(), .burst = 1000}};
        limit.acquire();
        CHECK(!creel::move_on_after(1h, [&] { limit.acquire(1000); }));
        limit.set_rate({.tokens = 1, .per = std::chrono::years{300}, .burst = 1000});
        CHECK(limit.statistics().available == 999);
        limit.set_rate({.tokens = 1, .per = 1s, .burst = 1000});
        CHECK(limit.statistics().available == 999);
        CHECK(creel::move_on_after(2s, [&] { limit.acquire(1000); }));
    });
    CHECK(left == nothing);
}

TEST_CASE("a new rate keeps the tokens of a large quota and the part of one that had come") {
    constexpr std::int64_t terabyte = 1'000'000'000'000;
    run_virtually([&](manual_poller& outside) {
        const creel::sync::rate a_day{.tokens = terabyte, .per = 24h, .burst = terabyte};
        rate_limiter limit{a_day};
        limit.set_rate(a_day);
        CHECK(limit.statistics().available == terabyte);
        limit.set_rate({.tokens = terabyte, .per = 1h, .burst = terabyte / 2});
        CHECK(limit.statistics().available == terabyte / 2);

        const bool all = limit.try_acquire(terabyte / 2);
        CHECK(all);
        limit.set_rate({.tokens = 1, .per = 3s, .burst = 1});
        outside.advance(1s);
        limit.set_rate({.tokens = 1, .per = 24h, .burst = 1});
        outside.advance(16h - 1ns);
        const bool early = limit.try_acquire();
        CHECK(!early);
        outside.advance(1ns);
        const bool in_time = limit.try_acquire();
        CHECK(in_time);
    });
}

TEST_CASE("a rate_limiter counts right with the largest numbers there are") {
    constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max();
    constexpr creel::duration longest{most};
    const auto left = run_virtually([&](manual_poller& outside) {
        constexpr creel::duration years = 219'000h;
        const creel::sync::rate all_largest{.tokens = most, .per = longest, .burst = most};
        rate_limiter limit{all_largest}; // one token each nanosecond
        for (int i = 0; i < 2; ++i) {
            outside.advance(years); // it stays full
            limit.set_rate(all_largest);
            CHECK(limit.statistics().available == most);
        }
        limit.acquire(most);
        CHECK(limit.statistics().available == 0);
        outside.advance(years);
        CHECK(limit.statistics().available == years.count());
        limit.set_rate({.tokens = 1, .per = longest, .burst = most});
        CHECK(limit.statistics().available == years.count());

        // A waiter for the largest number is served when that many have come. Tokens beyond that
        // are counted only up to the number that a call can ask for.
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { limit.acquire(most); });
            creel::this_fiber::yield();
            for (int i = 0; i < 2; ++i) {
                limit.set_rate({.tokens = most, .per = 1ns, .burst = 1});
                outside.advance(i * years / 2);
                limit.set_rate({.tokens = 1, .per = longest, .burst = 1});
            }
        });
        CHECK(limit.statistics().available == 0);
        limit.set_rate({.tokens = most, .per = 1ns, .burst = most});
        limit.acquire(most);
        limit.acquire(most);
        CHECK(limit.statistics().granted == std::numeric_limits<std::uint64_t>::max());
    });
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

TEST_CASE("stress: a rate_limiter grants no more than its rate and takes nothing for a caller that "
          "gives up",
          "[stress]") {
    constexpr std::int64_t per_ms = 100;
    constexpr std::int64_t burst = 5;
    const auto begin = creel::clock::now();
    rate_limiter limiter{{.tokens = per_ms, .per = 1ms, .burst = burst}};
    std::atomic<std::int64_t> taken{0};
    run_crowd("rate_limiter stress", {}, [&](crowd_member& me) {
        for (int i = 0; me.goes_on(i, 1'000); ++i) {
            const std::int64_t count = me.random() % 4;
            if (me.random() % 4 == 0)
                taken += limiter.try_acquire(count) ? count : 0;
            else if (me.perhaps_cut_short([&] { limiter.acquire(count); }))
                taken += count;
        }
    });
    const auto elapsed = creel::clock::now() - begin;
    const auto s = limiter.statistics();
    CHECK(taken > 0);
    CHECK(static_cast<std::int64_t>(s.granted) == taken);
    CHECK(s.waiting == 0);
    CHECK(taken <= burst + (elapsed / 1us + 1) * per_ms / 1000 + 1);
}
