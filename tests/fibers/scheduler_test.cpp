#include <creel/fibers/scheduler.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/memory.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/this_fiber.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <csignal>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("run_scheduler returns the value of its function") {
    manual_poller outside;
    CHECK(creel::run_scheduler(outside, {}, [] { return 42; }) == 42);
    CHECK(!creel::on_scheduler());
}

TEST_CASE("run_scheduler rethrows the error of its function") {
    manual_poller outside;
    CHECK_THROWS_WITH(
        creel::run_scheduler(outside, {}, []() -> int { throw std::runtime_error("no"); }), "no");
    CHECK(!creel::on_scheduler());
}

TEST_CASE("yield lets the others run in turn") {
    std::string order;
    const auto left = run_virtually([&] {
        creel::with_nursery([&](creel::nursery& n) {
            for (char c : {'a', 'b', 'c'})
                n.spawn([&order, c] {
                    for (int i = 0; i < 3; ++i) {
                        order += c;
                        creel::this_fiber::yield();
                    }
                });
        });
    });
    CHECK(order == "abcabcabc");
    CHECK(left == nothing);
}

TEST_CASE("sleepers wake in the order of their deadlines, none early") {
    std::string order;
    const auto left = run_virtually([&](manual_poller& outside) {
        const auto begin = outside.now();
        std::vector<creel::duration> slept;
        creel::with_nursery([&](creel::nursery& n) {
            for (int seconds : {3, 1, 2})
                n.spawn([&, seconds] {
                    creel::this_fiber::sleep_for(std::chrono::seconds{seconds});
                    order += static_cast<char>('0' + seconds);
                    slept.push_back(creel::now() - begin);
                });
        });
        CHECK(slept == std::vector<creel::duration>{1s, 2s, 3s});
    });
    CHECK(order == "123");
    CHECK(left == nothing);
}

TEST_CASE("a fiber that waits alone is resumed without a switch") {
    run_virtually([] {
        const auto before = creel::statistics().switches;
        creel::this_fiber::sleep_for(1h);
        CHECK(creel::statistics().switches == before);
    });
}

namespace {
struct bare_waiter : creel::waiter {
    static creel::withdrawal withdraw(creel::waiter&, creel::wake_reason) noexcept {
        return creel::withdrawal::pending;
    }
    static void describe(const creel::waiter&, std::string& text) { text += "nothing"; }
    static constexpr creel::waiter_kind table{&withdraw, &describe};
    bare_waiter() noexcept : waiter(table) {}
};
} // namespace

TEST_CASE("a wake that comes before the park is not lost") {
    const auto left = run_virtually([] {
        bare_waiter w;
        creel::wake(w);
        CHECK(creel::park(w) == creel::wake_reason::signalled);
    });
    CHECK(left == nothing);
}

TEST_CASE("one fiber that yields for ever starves neither timers, nor I/O, nor cancel") {
    bool timer_fired = false;
    bool event_came = false;
    const auto left = run_virtually([&](manual_poller& outside) {
        gate opened_outside;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                for (;;) {
                    outside.advance(1us); // time passes, but nobody waits for it
                    creel::this_fiber::yield();
                }
            });
            outside.next_poll([&] { opened_outside.open(); });
            opened_outside.pass();
            event_came = true;
            creel::this_fiber::sleep_for(1ms);
            timer_fired = true;
            n.cancel();
        });
    });
    CHECK(event_came);
    CHECK(timer_fired);
    CHECK(left == nothing);
}

TEST_CASE("thousands of fibers that yield for ever starve neither timers nor events") {
    const int fibers = under_tsan ? 2'000 : 10'000;
    bool came = false;
    const auto left = run_virtually([&](manual_poller& outside) {
        gate opened_outside;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < fibers; ++i)
                n.spawn([&] {
                    for (;;) {
                        outside.advance(1ns);
                        creel::this_fiber::yield();
                    }
                });
            outside.next_poll([&] { opened_outside.open(); });
            opened_outside.pass();
            creel::this_fiber::sleep_for(1us);
            came = true;
            n.cancel();
        });
    });
    CHECK(came);
    CHECK(left == nothing);
}

TEST_CASE("a poll comes once in a round of the ready queue, not in the middle of a short one") {
    run_virtually([](manual_poller& outside) {
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 500; ++i)
                n.spawn([&] {
                    for (int k = 0; k < 20; ++k)
                        creel::this_fiber::yield();
                });
        });
        CHECK(outside.polls() >= 15);
        CHECK(outside.polls() <= 30); // 157 if it came every 64 switches
    });
}

TEST_CASE("one fiber whose waits never need to wait starves neither timers, nor I/O, nor cancel") {
    bool came = false;
    const auto left = run_virtually([&](manual_poller& outside) {
        gate always_open;
        always_open.open();
        gate opened_outside;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                for (;;) {
                    outside.advance(1us);
                    always_open.pass(); // like a queue that is never empty
                }
            });
            outside.next_poll([&] { opened_outside.open(); });
            opened_outside.pass();
            creel::this_fiber::sleep_for(1ms);
            came = true;
            n.cancel();
        });
    });
    CHECK(came);
    CHECK(left == nothing);
}

TEST_CASE("a checkpoint switches only when the budget is used up") {
    run_virtually([] {
        bool other_ran = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { other_ran = true; });
            creel::this_fiber::checkpoint();
            CHECK(!other_ran);
            for (int i = 0; i < 1000; ++i)
                creel::this_fiber::checkpoint();
            CHECK(other_ran);
        });
    });
}

TEST_CASE("a scheduler runs ten times on one thread, on the main thread and on others") {
    auto ten_runs = [] {
        int sum = 0;
        for (int i = 0; i < 10; ++i) {
            const auto left = run_virtually([&] {
                creel::with_nursery([&](creel::nursery& n) {
                    for (int k = 0; k < 10; ++k)
                        n.spawn([&] {
                            creel::this_fiber::sleep_for(1s);
                            ++sum;
                        });
                });
            });
            if (!(left == nothing))
                return -1;
        }
        return sum;
    };
    CHECK(ten_runs() == 100);
    std::vector<int> sums(4);
    for (int& sum : sums)
        std::thread{[&] { sum = ten_runs(); }}.join();
    CHECK(sums == std::vector<int>(4, 100));
    CHECK(ten_runs() == 100);
}

TEST_CASE("several threads run schedulers at the same time") {
    std::vector<int> sums(4);
    std::vector<std::thread> threads;
    for (int& sum : sums)
        threads.emplace_back([&sum] {
            run_virtually([&] {
                creel::with_nursery([&](creel::nursery& n) {
                    for (int k = 0; k < 1000; ++k)
                        n.spawn([&] {
                            creel::this_fiber::yield();
                            ++sum;
                        });
                });
            });
        });
    for (std::thread& t : threads)
        t.join();
    CHECK(sums == std::vector<int>(4, 1000));
}

TEST_CASE("a run inside a run is a clear error") {
    const auto outcome = run_in_child([] { run_virtually([] { run_virtually([] {}); }); });
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("io::run inside io::run") != std::string::npos);
}

TEST_CASE("a nursery off a scheduler's thread is a clear error") {
    const auto outcome = run_in_child([] { creel::with_nursery([](creel::nursery&) {}); });
    CHECK(outcome.signal == SIGABRT);
    CHECK(outcome.stderr_text.find("needs a running scheduler") != std::string::npos);
}

TEST_CASE("fibers of other threads and plain threads wake a fiber that sleeps in the poller") {
    std::vector<std::string> passed(2);
    gate from_plain;
    gate from_fiber;
    gate started;
    std::thread sleeper{[&] {
        run_virtually(
            [&] {
                started.open();
                from_plain.pass();
                passed[0] = "plain";
                from_fiber.pass();
                passed[1] = "fiber";
            },
            {}, manual_poller::other_threads::yes);
    }};
    started.pass(); // this thread has no scheduler: it blocks
    from_plain.open();
    run_virtually([&] { from_fiber.open(); });
    sleeper.join();
    CHECK(passed == std::vector<std::string>{"plain", "fiber"});
}

TEST_CASE("stress: wakes from other threads are never lost", "[stress]") {
    constexpr int rounds = 20'000;
    constexpr int fibers = 8;
    gate gates[fibers];
    std::atomic<bool> done{false};
    std::thread waker{[&] {
        while (!done.load())
            for (gate& g : gates)
                g.let_one_pass();
    }};
    int passes = 0;
    run_virtually(
        [&] {
            creel::with_nursery([&](creel::nursery& n) {
                for (gate& g : gates)
                    n.spawn([&] {
                        for (int i = 0; i < rounds / fibers; ++i) {
                            g.pass();
                            ++passes;
                        }
                    });
            });
        },
        {}, manual_poller::other_threads::yes);
    done.store(true);
    waker.join();
    CHECK(passes == rounds);
}

TEST_CASE("stress: a wake from another thread races with a timeout, and one of them wins",
          "[stress]") {
    constexpr int rounds = 20'000;
    gate g;
    std::atomic<bool> done{false};
    std::atomic<int> let_through{0};
    std::thread waker{[&] {
        while (!done.load())
            if (g.let_one_pass())
                let_through.fetch_add(1);
    }};
    int signalled = 0;
    int timed_out = 0;
    run_virtually(
        [&](manual_poller& outside) {
            for (int i = 0; i < rounds; ++i)
                ++(g.pass_until(outside.now() + 1ns) ? signalled : timed_out);
        },
        {}, manual_poller::other_threads::yes);
    done.store(true);
    waker.join();
    CHECK(signalled + timed_out == rounds);
    CHECK(signalled == let_through.load());
}

TEST_CASE("the fibers are listed as a tree with what they wait for") {
    run_virtually([] {
        gate never;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn({.name = "parent"}, [&] {
                creel::with_nursery([&](creel::nursery& inner) {
                    inner.spawn({.name = "child"}, [&] { never.pass(); });
                });
            });
            n.spawn({.name = "sleeper"}, [] { creel::this_fiber::sleep_for(1h); });
            creel::this_fiber::sleep_for(1s);
            n.spawn({.name = "young"}, [] {});
            const std::string text = creel::list_fibers();
            INFO(text);
            CHECK(text.find("parent (#") != std::string::npos);
            CHECK(text.starts_with("main runs\n"));
            CHECK(text.find("waits for its child\n") != std::string::npos);
            CHECK(text.find("  child (#") != std::string::npos);
            CHECK(text.find("waits for a gate") != std::string::npos);
            CHECK(text.find("waits for a sleep") != std::string::npos);
            CHECK(text.find("young (#") != std::string::npos);
            CHECK(text.find("has not started") != std::string::npos);
            CHECK(text.find("scheduler_test.cpp:") != std::string::npos);
            n.cancel();
        });
    });
}

TEST_CASE("the list says what the main fiber waits for, and how many have no stack") {
    run_virtually(
        [] {
            gate g;
            std::string text;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { g.pass(); });
                n.spawn([&] { g.pass(); });
                n.spawn([] {});
                creel::this_fiber::sleep_for(1s);
                text = creel::list_fibers();
                g.open();
            });
            CHECK_THAT(text, Catch::Contains("no stack can be had now for 1 of those that have "
                                             "not started\n"));
        },
        {.max_fibers = 2});
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            n.spawn([] {
                CHECK_THAT(creel::list_fibers(), Catch::StartsWith("main waits for a sleep"));
            });
            creel::this_fiber::sleep_for(1s);
        });
    });
}

TEST_CASE("a fiber knows its name and number, also while others run") {
    run_virtually([] {
        CHECK(creel::this_fiber::name() == "main");
        std::vector<std::uint64_t> ids{creel::this_fiber::id()};
        creel::with_nursery([&](creel::nursery& n) {
            for (const char* name : {"a", "a name too long for any small string buffer"})
                n.spawn({.name = name}, [&, name] {
                    const auto id = creel::this_fiber::id();
                    ids.push_back(id);
                    creel::this_fiber::yield();
                    CHECK(creel::this_fiber::name() == name);
                    CHECK(creel::this_fiber::id() == id);
                });
        });
        CHECK(ids.size() == 3);
        CHECK(ids[0] != ids[1]);
        CHECK(ids[1] != ids[2]);
    });
}

TEST_CASE("a million tasks that never wait need one stack") {
    run_virtually([] {
        const int count = 1'000'000;
        int ran = 0;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < count; ++i)
                n.spawn([&] { ++ran; });
        });
        CHECK(ran == count);
        CHECK(creel::statistics().fibers_created == 1);
    });
}

TEST_CASE("100,000 children spawned and cancelled leave memory and mappings where they were") {
    // TSan knows at most 8,128 fibers.
    const std::size_t count = under_tsan ? 4'000 : 100'000;
    auto burst = [&] {
        std::size_t ended = 0;
        const auto left = run_virtually([&] {
            gate never;
            creel::with_nursery([&](creel::nursery& n) {
                for (std::size_t i = 0; i < count; ++i)
                    n.spawn([&] {
                        try {
                            never.pass();
                        } catch (const creel::cancelled&) {
                            ++ended;
                            throw;
                        }
                    });
                creel::this_fiber::sleep_for(1s);
                CHECK(never.waiting() == count);
                n.cancel();
            });
        });
        CHECK(left == nothing);
        return ended;
    };
    CHECK(burst() == count); // allocators and the C++ runtime warm up
    const auto mappings = mapping_count();
    const auto resident = resident_bytes();
    CHECK(burst() == count);
    if (!under_tsan) // its own mappings grow
        CHECK(mapping_count() <= mappings + 16);
    if (!under_asan && !under_tsan) // they keep what was freed
        CHECK(resident_bytes() <= resident + 16 * 1024 * 1024);
}
