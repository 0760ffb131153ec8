// blocking(), on a pool that the test makes: its helper threads end before the test does. Only
// child processes use the pool of the process.
#include "support/becomes_true.hpp"
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/forked.hpp"
#include "support/outcome.hpp"
#include "support/sanitizers.hpp"
#include "support/time_limit.hpp"

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <latch>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

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

// Whether the calling thread blocks the signal.
bool blocks(int signal_number) {
    sigset_t now;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
    return sigismember(&now, signal_number) == 1;
}

// Starts a thread unless the test has told it to refuse.
std::atomic<int> refusals{0};
int start_unless_refused(void* (*body)(void*), void* argument) noexcept {
    if (refusals > 0) {
        --refusals;
        return EAGAIN;
    }
    return creel::detail::start_helper_thread(body, argument);
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

TEST_CASE("a wait inside a blocking call sees its caller's cancel, whoever sends it") {
    using from = void (*)(creel::cancel_scope&, creel::nursery&);
    const std::array<from, 4> kinds{
        [](creel::cancel_scope& s, creel::nursery&) { s.cancel("enough"); },
        [](creel::cancel_scope&, creel::nursery& n) { n.cancel("enough"); },
        [](creel::cancel_scope& s, creel::nursery&) {
            std::thread{[token = s.token()] { token.cancel("enough"); }}.join();
        },
        [](creel::cancel_scope& s, creel::nursery&) {
            s.set_deadline(creel::now() + 1min); // and nothing else can run until then
        }};
    for (const from kind : kinds) {
        for (const bool abandon : {false, true}) {
            std::string seen;
            {
                blocking_pool pool{1};
                const auto left = run_virtually(
                    [&] {
                        std::latch running{1};
                        creel::cancel_scope s;
                        creel::with_nursery([&](creel::nursery& n) {
                            n.spawn([&] {
                                running.wait();
                                kind(s, n);
                            });
                            const bool done = s.run([&] {
                                call(pool,
                                     [&running, &seen] {
                                         running.count_down();
                                         seen =
                                             outcome_of([] { creel::this_fiber::sleep_for(1h); });
                                         creel::check_cancelled(); // it is not taken back
                                     },
                                     {.abandon = abandon});
                            });
                            CHECK(!done);
                        });
                    },
                    {}, with_threads);
                CHECK(left == nothing);
            } // an abandoned call has ended
            CHECK((seen == "cancelled: enough" || seen == "cancelled: the deadline has passed"));
        }
    }
}

TEST_CASE("a limit around a blocking call that waits is over in time and is known inside") {
    run_virtually(
        [](manual_poller& outside) {
            blocking_pool pool{1};
            std::latch running{1};
            const creel::time_point limit = outside.now() + 20ms;
            creel::time_point known{};
            creel::time_point in_shield{};
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { running.wait(); }); // time stands still until then
                const std::string outcome = outcome_of([&] {
                    creel::fail_at(limit, [&] {
                        call(pool, [&] {
                            known = creel::current_deadline();
                            in_shield = creel::shield([] { return creel::current_deadline(); });
                            running.count_down();
                            creel::this_fiber::sleep_for(1h);
                        });
                    });
                });
                CHECK(outcome.find("timed out") == 0);
            });
            CHECK(known == limit);
            CHECK(in_shield == creel::time_point::max());
            CHECK(call(pool, [] { return creel::current_deadline(); }) == creel::time_point::max());
        },
        {}, with_threads);
}

TEST_CASE("a shield around a blocking call hides the cancel from it, and one inside its part") {
    run_virtually(
        [] {
            blocking_pool pool{1};
            for (const bool outside : {true, false}) {
                std::latch running{1};
                std::latch cancelled{1};
                std::string shielded;
                std::string after;
                creel::with_nursery([&](creel::nursery& n) {
                    creel::cancel_scope s;
                    n.spawn([&] {
                        running.wait();
                        s.cancel("enough");
                        cancelled.count_down();
                    });
                    const auto wait = [&] {
                        running.count_down();
                        cancelled.wait();
                        shielded = outcome_of([] {
                            creel::check_cancelled();
                            creel::this_fiber::sleep_for(1ns);
                        });
                    };
                    const bool done = s.run([&] {
                        if (outside)
                            creel::shield([&] { call(pool, wait); });
                        else
                            call(pool, [&] {
                                creel::shield(wait);
                                after = outcome_of([] { creel::this_fiber::sleep_for(1h); });
                            });
                    });
                    CHECK(done); // what the call returns counts
                });
                CHECK(shielded == "nothing");
                CHECK(after == (outside ? "" : "cancelled: enough"));
            }
        },
        {}, with_threads);
}

TEST_CASE("a scope inside a blocking call absorbs its own cancel and lets the caller's pass") {
    run_virtually(
        [] {
            blocking_pool pool{1};
            CHECK(call(pool, [] {
                creel::cancel_scope own;
                return !own.run([&] {
                    own.cancel();
                    creel::this_fiber::sleep_for(1h);
                });
            }));
            std::latch running{1};
            bool went_on = false;
            creel::with_nursery([&](creel::nursery& n) {
                creel::cancel_scope s;
                n.spawn([&] {
                    running.wait();
                    s.cancel();
                });
                CHECK(!s.run([&] {
                    call(pool, [&] {
                        creel::cancel_scope own;
                        own.run([&] {
                            running.count_down();
                            creel::this_fiber::sleep_for(1h);
                        });
                        went_on = true;
                    });
                }));
            });
            CHECK(!went_on);
        },
        {}, with_threads);
}

TEST_CASE("a grace is known inside a blocking call and ends its waits when it has passed") {
    run_virtually(
        [] {
            blocking_pool pool{1};
            std::latch running{1};
            std::latch saw_grace{1};
            std::string within_grace;
            std::string after;
            creel::with_nursery([&](creel::nursery& n) {
                creel::cancel_scope s;
                n.spawn([&] {
                    running.wait();
                    s.cancel("soon", 1min);
                    saw_grace.wait(); // so time does not pass
                });
                s.run([&] {
                    call(pool, [&] {
                        running.count_down();
                        const creel::cancel_token mine = creel::current_token();
                        if (!becomes_true([&] { return mine.cancelled(); }))
                            within_grace = "not told";
                        within_grace += outcome_of([] { creel::this_fiber::sleep_for(1ns); });
                        saw_grace.count_down();
                        after = outcome_of([] { creel::this_fiber::sleep_for(1h); });
                    });
                });
            });
            CHECK(within_grace == "nothing");
            CHECK(after == "cancelled: soon");
        },
        {}, with_threads);
}

TEST_CASE("abandoned calls leave the helpers to the others and have a bound of their own") {
    std::latch go_on{1};
    std::atomic<int> ran{0};
    {
        blocking_pool pool{1, 2};
        const auto left = run_virtually(
            [&] {
                creel::with_nursery([&](creel::nursery& n) {
                    for (int i = 1; i <= 2; ++i) {
                        creel::cancel_scope s;
                        n.spawn([&s, &ran, i] {
                            CHECK(becomes_true([&] { return ran == i; }));
                            s.cancel();
                        });
                        CHECK(!s.run([&] {
                            call(pool,
                                 [&go_on, &ran] {
                                     ++ran;
                                     go_on.wait();
                                 },
                                 {.abandon = true});
                        }));
                        CHECK(call(pool, [] { return 1; }) ==
                              1); // although helpers are left behind
                    }
                    bool third = false;
                    n.spawn([&] {
                        call(pool, [] {}, {.abandon = true});
                        third = true;
                    });
                    CHECK(becomes_true([&] { return pool.queued() == 1; }));
                    CHECK(call(pool, [] { return 1; }) == 1); // is not behind it in line
                    CHECK(!third);
                    CHECK(pool.queued() == 1);
                    go_on.count_down();
                });
                CHECK(call(pool, [] { return 1; }) == 1);
            },
            {}, with_threads);
        CHECK(left == nothing);
        CHECK(becomes_true([&] { return pool.threads() == 1; })); // the others have ended
    }
}

TEST_CASE("an abandoned call hands its place to those who wait in line") {
    for (const int refused : {0, 3}) { // the caller in line then asks for a thread itself
        std::latch go_on{1};
        blocking_pool pool{1, 2, &start_unless_refused};
        const auto left = run_virtually(
            [&] {
                std::latch running{1};
                creel::with_nursery([&](creel::nursery& n) {
                    creel::cancel_scope s;
                    n.spawn([&] {
                        running.wait();
                        CHECK(call(pool, [] { return 1; }) == 1); // while the other runs
                    });
                    n.spawn([&] {
                        CHECK(pool.queued() == 1);
                        refusals = refused;
                        s.cancel();
                    });
                    CHECK(!s.run([&] {
                        call(pool,
                             [&running, &go_on] {
                                 running.count_down();
                                 go_on.wait();
                             },
                             {.abandon = true});
                    }));
                });
            },
            {}, with_threads);
        CHECK(left == nothing);
        CHECK(refusals == 0);
        go_on.count_down();
    }
}

TEST_CASE("a thread that cannot be had for a moment is asked for again") {
    run_virtually(
        [] {
            blocking_pool none{1, 1, &start_unless_refused};
            refusals = 3;
            CHECK(call(none, [] { return 1; }) == 1);
            CHECK(refusals == 0);

            blocking_pool one_busy{2, 1, &start_unless_refused};
            std::latch running{1};
            std::latch go_on{1};
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    call(one_busy, [&] {
                        running.count_down();
                        go_on.wait();
                    });
                });
                creel::this_fiber::yield();
                running.wait();
                refusals = 30;
                CHECK(call(one_busy, [] { return 2; }) == 2);
                CHECK(refusals == 0);
                go_on.count_down();
            });
        },
        {}, with_threads);
}

TEST_CASE("a blocking call fails when no helper can be had for long and can be cancelled before") {
    const auto left = run_virtually(
        [] {
            blocking_pool pool{1, 1, &start_unless_refused};
            refusals = 1'000'000;
            const std::string outcome = outcome_of([&] { call(pool, [] {}, {.name = "query"}); });
            CHECK(outcome.find("the blocking call \"query\" at ") == 0);
            CHECK(outcome.find("needs a helper thread, and none can be started") !=
                  std::string::npos);
            CHECK(!creel::move_on_after(2ms, [&] { call(pool, [] {}); }));
            CHECK(pool.queued() == 0);
            refusals = 0;
            CHECK(call(pool, [] { return 1; }) == 1);
        },
        {}, with_threads);
    CHECK(left == nothing);
}

TEST_CASE("a blocking call has its caller's signals, and its thread none but those of faults") {
    sigset_t blocked;
    sigset_t before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    ::pthread_sigmask(SIG_BLOCK, &blocked, &before);
    run_virtually(
        [] {
            blocking_pool pool{1};
            CHECK(call(pool, [] {
                const bool right = blocks(SIGUSR2) && !blocks(SIGTERM);
                sigset_t all;
                sigfillset(&all);
                ::pthread_sigmask(SIG_SETMASK, &all,
                                  nullptr); // the signal mask that f leaves is undone
                return right;
            }));
            CHECK(!call(pool, [] { return blocks(SIGTERM); }));
        },
        {}, with_threads);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);

    static std::atomic<int> told{0};
    const auto body = [](void*) -> void* {
        bool right = blocks(SIGTERM) && blocks(SIGINT) && blocks(SIGCHLD) && blocks(SIGALRM);
        for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS})
            right = right && !blocks(fault);
        told = right ? 1 : 2;
        return nullptr;
    };
    CHECK(creel::detail::start_helper_thread(body, nullptr) == 0);
    CHECK(becomes_true([] { return told != 0; }));
    CHECK(told == 1);
}

TEST_CASE("a helper thread runs on the process's cores also if a pinned loop has started it") {
    cpu_set_t all;
    REQUIRE(::sched_getaffinity(0, sizeof all, &all) == 0);
    cpu_set_t one;
    CPU_ZERO(&one);
    for (unsigned i = 0; CPU_COUNT(&one) == 0; ++i)
        if (CPU_ISSET(i, &all))
            CPU_SET(i, &one);
    REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
    cpu_set_t seen;
    CPU_ZERO(&seen);
    run_virtually(
        [&] {
            blocking_pool pool{1};
            call(pool, [&] { ::sched_getaffinity(0, sizeof seen, &seen); });
        },
        {}, with_threads);
    ::sched_setaffinity(0, sizeof all, &all);
    CHECK(CPU_EQUAL(&seen, &all));
}

#if !defined(CREEL_TEST_TSAN) // it ends a forked child that starts a thread

namespace {

void run_that_blocks() {
    run_virtually([] { expect(creel::blocking([] { return 2; }) == 2); }, {}, with_threads);
}

} // namespace

TEST_CASE("blocking works in a forked child, and in a child of that") {
    const auto outcome = run_in_child([] {
        run_that_blocks(); // so there are helpers, which no child has
        expect(status_of_fork([] {
                   run_that_blocks();
                   expect(status_of_fork(run_that_blocks) == 0);
               }) == 0);
        run_that_blocks();
    });
    INFO(to_string(outcome));
    CHECK((outcome.exited && outcome.exit_code == 0));
}

TEST_CASE("blocking works in a child that is forked while others use the pool") {
    const auto outcome = run_in_child([] {
        run_that_blocks();
        std::atomic<int> begun{0};
        std::atomic<bool> enough{false};
        std::vector<std::thread> others;
        for (int i = 0; i < 2; ++i)
            others.emplace_back([&] {
                ++begun;
                while (!enough) // each holds the pool's lock most of the time
                    static_cast<void>(blocking_pool::shared().queued());
            });
        // A thread that begins allocates, and GCC 12's ASan does not hold the locks of its
        // allocator over a fork.
        while (begun != 2)
            std::this_thread::yield();
        for (int i = 0; i < 20; ++i)
            expect(status_of_fork(run_that_blocks) == 0);
        enough = true;
        for (std::thread& t : others)
            t.join();
    });
    INFO(to_string(outcome));
    CHECK((outcome.exited && outcome.exit_code == 0));
}

TEST_CASE("a child that is forked inside a blocking call may have a run, and not return") {
    const auto outcome = run_in_child([] {
        run_virtually(
            [] {
                creel::cancel_scope s;
                s.run([&] {
                    creel::blocking([] {
                        expect(status_of_fork([] {
                                   creel::this_fiber::sleep_for(1ns);
                                   run_that_blocks();
                               }) == 0);
                    });
                });
                const pid_t parent = ::getpid();
                const int status = creel::blocking([&] {
                    const pid_t child = ::fork();
                    if (child == 0)
                        return 0; // out of f
                    int how = 0;
                    ::waitpid(child, &how, 0);
                    return how;
                });
                expect(::getpid() == parent);
                expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
            },
            {}, with_threads);
    });
    INFO(to_string(outcome));
    CHECK((outcome.exited && outcome.exit_code == 0));
    CHECK(outcome.stderr_text.find("has forked, and returns in the child") != std::string::npos);
}

#endif

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
    // Each call either gives its value or was cancelled before it ran, never both.
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
