// blocking(), on a pool of each test's own: its helper threads have ended when the test does. The
// process's own pool is used in child processes only.
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/outcome.hpp"
#include "support/sanitizers.hpp"
#include "support/time_limit.hpp"

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::detail::blocking_pool;

namespace {

constexpr auto with_threads = manual_poller::other_threads::yes;

template <typename F>
auto call(blocking_pool& pool, F&& f, creel::blocking_options options = {}) {
    return creel::detail::blocking_on(pool, options, std::forward<F>(f),
                                      std::source_location::current());
}

} // namespace

TEST_CASE("a blocking call runs on another thread and its result comes back") {
    const auto left = run_virtually(
        [] {
            blocking_pool pool{2};
            const auto home = std::this_thread::get_id();
            std::thread::id there;
            int others = 0;
            creel::with_nursery([&](creel::nursery& n) {
                std::latch go_on{1};
                n.spawn([&] { // runs while the call blocks
                    ++others;
                    go_on.count_down();
                });
                auto value = call(pool, [&] {
                    there = std::this_thread::get_id();
                    go_on.wait();
                    return std::make_unique<int>(7);
                });
                CHECK(*value == 7);
            });
            CHECK(others == 1);
            CHECK(there != home);
            bool ran = false;
            call(pool, [&] { ran = true; });
            CHECK(ran);
            CHECK(pool.threads() <= 2);
        },
        {}, with_threads);
    CHECK(left == nothing);
}

TEST_CASE("the exception of a blocking call comes back") {
    run_virtually(
        [] {
            blocking_pool pool{1};
            for (const bool abandon : {false, true})
                CHECK(outcome_of([&] {
                          call(pool, [] { throw std::runtime_error("boom"); },
                               {.abandon = abandon});
                      }) == "boom");
        },
        {}, with_threads);
}

TEST_CASE("no more calls block at once than the pool has threads and the others wait in line") {
    run_virtually(
        [] {
            blocking_pool pool{2};
            std::mutex mutex;
            int now = 0;
            int most = 0;
            std::vector<int> order;
            std::latch first_two{1};
            creel::with_nursery([&](creel::nursery& n) {
                for (int i = 0; i < 6; ++i)
                    n.spawn([&, i] {
                        call(pool, [&, i] {
                            {
                                const std::lock_guard lock{mutex};
                                most = std::max(most, ++now);
                            }
                            if (i < 2)
                                first_two.wait();
                            const std::lock_guard lock{mutex};
                            order.push_back(i);
                            --now;
                        });
                    });
                n.spawn([&] {
                    CHECK(pool.queued() >= 4);
                    first_two.count_down();
                });
            });
            CHECK(most <= 2);
            CHECK(order.size() == 6);
            CHECK(pool.threads() <= 2);
        },
        {}, with_threads);
}

TEST_CASE("a blocking call that is cancelled in line is not run") {
    const auto left = run_virtually(
        [] {
            blocking_pool pool{1};
            std::latch running{1};
            std::latch l{1};
            bool ran = false;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    call(pool, [&] {
                        running.count_down();
                        l.wait();
                    });
                });
                creel::this_fiber::yield();
                running.wait(); // the only helper is busy from here on
                for (const bool abandon : {false, true}) {
                    creel::cancel_scope s;
                    n.spawn([&] { s.cancel(); });
                    CHECK(!s.run([&] { call(pool, [&] { ran = true; }, {.abandon = abandon}); }));
                }
                CHECK(pool.queued() == 0);
                l.count_down();
            });
            CHECK(!ran);
        },
        {}, with_threads);
    CHECK(left == nothing);
}

TEST_CASE("a cancelled blocking call is awaited and its result counts") {
    const auto left = run_virtually(
        [] {
            blocking_pool pool{1};
            std::latch running{1};
            std::latch go_on{1};
            bool other_saw_cancel = false;
            creel::with_nursery([&](creel::nursery& n) {
                creel::cancel_scope s;
                n.spawn([&] {
                    running.wait(); // the helper is in the call: a cancel cannot take it back
                    s.cancel("too late");
                    go_on.count_down();
                    other_saw_cancel = s.cancel_called();
                });
                const auto value = s.run([&] {
                    return call(pool, [&] {
                        running.count_down();
                        go_on.wait();
                        return 5;
                    });
                });
                CHECK(value == 5);
            });
            CHECK(other_saw_cancel);
        },
        {}, with_threads);
    CHECK(left == nothing);
}

TEST_CASE("check_cancelled ends a blocking call early with the reason of the cancel") {
    const auto left = run_virtually(
        [] {
            blocking_pool pool{1};
            std::latch running{1};
            std::string seen;
            creel::with_nursery([&](creel::nursery& n) {
                creel::cancel_scope s;
                n.spawn([&] {
                    running.wait();
                    s.cancel("enough");
                });
                const bool done = s.run([&] {
                    call(pool, [&] {
                        creel::check_cancelled();
                        running.count_down();
                        seen = outcome_of([] {
                            for (;;)
                                creel::check_cancelled();
                        });
                        creel::check_cancelled();
                    });
                });
                CHECK(!done);
            });
            CHECK(seen == "cancelled: enough");
        },
        {}, with_threads);
    CHECK(left == nothing);
    creel::check_cancelled(); // outside it looks at the caller's own scope
    creel::cancel_scope s;
    s.cancel();
    CHECK(!s.run([] { creel::check_cancelled(); }));
}

TEST_CASE("check_cancelled inside a blocking call obeys the scopes of its function, too") {
    const auto is_seen = [] {
        creel::cancel_scope scope;
        return !scope.run([&] {
            scope.cancel();
            creel::check_cancelled();
        });
    };
    run_virtually(
        [&] {
            blocking_pool pool{1};
            CHECK(call(pool, is_seen));
        },
        {}, with_threads);
}

TEST_CASE("an abandoned call keeps what it owns until it ends and its result is dropped") {
    const auto owned = std::make_shared<int>(1);
    std::latch running{1};
    std::latch go_on{1};
    std::atomic<bool> ended{false};
    {
        blocking_pool pool{1};
        const auto left = run_virtually(
            [&] {
                creel::with_nursery([&](creel::nursery& n) {
                    creel::cancel_scope s;
                    n.spawn([&] {
                        running.wait();
                        s.cancel();
                    });
                    const auto value = s.run([&] {
                        return call(pool,
                                    [&running, &go_on, &ended, owned] {
                                        running.count_down();
                                        go_on.wait();
                                        ended = true;
                                        return owned;
                                    },
                                    {.abandon = true});
                    });
                    CHECK(!value); // at once, and the run ends too
                });
                CHECK(owned.use_count() == 2);
            },
            {}, with_threads);
        CHECK(left == nothing);
        CHECK(!ended);
        CHECK(owned.use_count() == 2);
        go_on.count_down();
    }
    CHECK(ended);
    CHECK(owned.use_count() == 1);
}

TEST_CASE("a call that may be abandoned and is not gives its result") {
    run_virtually(
        [] {
            blocking_pool pool{1};
            const auto value =
                call(pool, [] { return std::make_unique<int>(3); }, {.abandon = true});
            CHECK(*value == 3);
        },
        {}, with_threads);
}

TEST_CASE("on a plain thread a blocking call runs where it is") {
    blocking_pool pool{1};
    CHECK(call(pool, [] { return std::this_thread::get_id(); }) == std::this_thread::get_id());
    CHECK(outcome_of([&] { call(pool, [] { throw std::runtime_error("boom"); }); }) == "boom");
    CHECK(pool.threads() == 0);
}

TEST_CASE("a blocking call that waits is listed with its name and place") {
    run_virtually(
        [] {
            blocking_pool pool{1};
            std::latch l{1};
            std::string list;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn({.name = "caller"},
                        [&] { call(pool, [&] { l.wait(); }, {.name = "resolve"}); });
                n.spawn([&] {
                    list = creel::list_fibers();
                    l.count_down();
                });
            });
            CHECK(list.find("waits for the blocking call \"resolve\" at ") != std::string::npos);
            CHECK(list.find("blocking_test.cpp") != std::string::npos);
        },
        {}, with_threads);
}

TEST_CASE("a stuck call that was abandoned does not hold up the exit and is named") {
    const auto outcome = run_in_child(
        [] {
            run_virtually(
                [] {
                    static std::latch running{1};
                    creel::with_nursery([&](creel::nursery& n) {
                        n.spawn([&] {
                            running.wait();
                            n.cancel();
                        });
                        creel::blocking({.abandon = true, .name = "stuck"}, [] {
                            running.count_down();
                            for (;;)
                                std::this_thread::sleep_for(1h);
                        });
                    });
                },
                {}, with_threads);
        },
        20s);
    INFO(to_string(outcome));
    CHECK(outcome.exited);
    CHECK(outcome.exit_code == 0);
    CHECK(outcome.stderr_text.find("blocking call \"stuck\" at ") != std::string::npos);
    CHECK(outcome.stderr_text.find("abandoned and still runs") != std::string::npos);
}

TEST_CASE("a blocking call whose end is on its way when it is cancelled gives its value") {
    for (const bool abandon : {false, true}) {
        const auto left = run_virtually(
            [abandon] {
                blocking_pool pool{1};
                std::latch second_runs{1};
                std::latch go_on{1};
                creel::cancel_scope s;
                std::optional<int> value;
                std::string next;
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn([&] {
                        s.run([&] {
                            value = call(pool, [] { return 5; }, {.abandon = abandon});
                            next = outcome_of([] { creel::this_fiber::yield(); });
                        });
                    });
                    n.spawn([&] {
                        call(pool, [&] {
                            second_runs.count_down();
                            go_on.wait();
                        });
                    });
                    n.spawn([&] {
                        second_runs.wait(); // so the first is done, and its wake in our inbox
                        s.cancel("too late");
                        go_on.count_down();
                    });
                });
                CHECK(value == 5);
                CHECK(next == "cancelled: too late");
            },
            {}, with_threads);
        CHECK(left == nothing);
    }
}

TEST_CASE("blocking calls race with cancels [stress]", "[stress]") {
    // Each either gives its value or was cancelled before it ran: never both.
    constexpr int least = under_tsan ? 8 : 40; // by 40 each kind of round below has come twice
    constexpr unsigned threads = 3;
    blocking_pool pool{threads};
    const time_limit limit;
    std::atomic<int> ran{0};
    int begun = 0;
    int got = 0;
    const auto race = [&](int round) {
        // In some rounds all threads are busy until the cancel, so that it finds calls in line.
        std::latch cancelled{1};
        creel::with_nursery([&](creel::nursery& n) {
            const int before = ran;
            if (round % 8 == 1)
                for (unsigned i = 0; i < threads; ++i)
                    n.spawn([&] { call(pool, [&] { cancelled.wait(); }); });
            for (int i = 0; i < 10; ++i)
                n.spawn([&] {
                    ++begun;
                    call(pool, [&] { ++ran; });
                    ++got;
                });
            while (round % 4 == 0 && ran == before)
                creel::this_fiber::yield(); // one at least
            for (int k = 0; k < round % 20; ++k)
                creel::this_fiber::yield();
            n.cancel();
            cancelled.count_down();
        });
    };
    run_virtually(
        [&] {
            for (int round = 0; round < least || (round < 400 && !limit.passed()); ++round)
                race(round);
        },
        {}, with_threads);
    CHECK(got == ran);
    CHECK(got > 0);     // in the first round
    CHECK(got < begun); // in the second
}
