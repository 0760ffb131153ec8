#include <creel/fibers/scheduler.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/process_end.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
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

TEST_CASE("a fiber that waits alone is resumed without a switch") {
    run_virtually([] {
        const auto before = creel::statistics().switches;
        creel::this_fiber::sleep_for(1h);
        CHECK(creel::statistics().switches == before);
    });
}

namespace {

// Fibers that go on for ever, each step a tick long, and beside them a fiber that waits for an
// event, for a timer, and for the end of the others.
void run_beside(int fibers, creel::duration tick, test_body<> step) {
    bool event_came = false;
    bool timer_fired = false;
    const auto left = run_virtually([&](manual_poller& outside) {
        gate opened_outside;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < fibers; ++i)
                n.spawn([&] {
                    for (;;) {
                        outside.advance(tick); // time passes, but no fiber waits for it
                        step();
                    }
                });
            outside.next_poll([&] { opened_outside.open(); });
            opened_outside.pass();
            event_came = true;
            creel::this_fiber::sleep_for(1000 * tick);
            timer_fired = true;
            n.cancel();
        });
    });
    CHECK(event_came);
    CHECK(timer_fired);
    CHECK(left == nothing);
}

} // namespace

TEST_CASE("one fiber that yields for ever starves neither timers, nor I/O, nor cancel") {
    run_beside(1, 1us, [] { creel::this_fiber::yield(); });
}

TEST_CASE("thousands of fibers that yield for ever starve neither timers nor events") {
    run_beside(under_tsan ? 500 : 10'000, 1ns, [] { creel::this_fiber::yield(); });
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
        // In a round each fiber runs once, and once more because it has yielded.
        CHECK(outside.polls() >= 8);
        CHECK(outside.polls() <= 15); // 157 if it came every 64 switches
    });
}

TEST_CASE("one fiber whose waits never need to wait starves neither timers, nor I/O, nor cancel") {
    gate always_open; // like a queue that is never empty
    always_open.open();
    run_beside(1, 1us, [&] { always_open.pass(); });
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
    constexpr int each = under_tsan ? 200 : 1'000;
    std::vector<int> sums(4);
    std::vector<std::thread> threads;
    for (int& sum : sums)
        threads.emplace_back([&sum] {
            run_virtually([&] {
                creel::with_nursery([&](creel::nursery& n) {
                    for (int k = 0; k < each; ++k)
                        n.spawn([&] {
                            creel::this_fiber::yield();
                            ++sum;
                        });
                });
            });
        });
    for (std::thread& t : threads)
        t.join();
    CHECK(sums == std::vector<int>(4, each));
}

TEST_CASE("a run inside a run is a clear error") {
    CHECK_THAT(abort_of_run([] { run_virtually([] {}); }),
               Catch::Contains("io::run inside io::run"));
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

TEST_CASE("the list says what the main fiber waits for, and who waits in line for a fiber") {
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
            CHECK_THAT(text, Catch::Contains(" has not started: it waits for one of the 2 fibers "
                                             "to end\n"));
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

namespace {
// The list of all fibers, taken inside this many nurseries of one fiber each.
std::string list_inside(int nurseries) {
    if (nurseries == 0)
        return creel::list_fibers();
    std::string text;
    creel::with_nursery(
        [&](creel::nursery& n) { n.spawn([&] { text = list_inside(nurseries - 1); }); });
    return text;
}
} // namespace

TEST_CASE("nurseries 10,000 deep are listed without running out of stack") {
    run_virtually([] {
        const int depth = under_tsan ? 500 : 10'000;
        const std::string text = list_inside(depth);
        CHECK(std::count(text.begin(), text.end(), '\n') == 1 + depth);
    });
}

TEST_CASE("another thread that keeps the inbox full does not starve I/O") {
    auto busy = [](manual_poller& outside) {
        gate opened_outside;
        bool came = false;
        std::atomic<gate*> current{nullptr};
        std::atomic<bool> done{false};
        std::thread waker{[&] { // opens the current gate as soon as a fiber waits at it
            while (!done.load())
                if (gate* g = current.load())
                    if (g->let_one_pass())
                        current.store(nullptr);
        }};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                opened_outside.pass();
                came = true;
            });
            creel::this_fiber::yield();
            outside.next_poll([&] { opened_outside.open(); });
            gate g;
            for (int i = 0; i < 100'000 && !came; ++i) {
                current.store(&g);
                g.pass();
                while (current.load() != nullptr) {
                }
            }
        });
        done.store(true);
        waker.join();
        CHECK(came);
    };
    run_virtually(busy, {}, manual_poller::other_threads::yes);
}

TEST_CASE("slow tasks do not put timers off for thousands of tasks") {
    run_virtually([](manual_poller& outside) {
        gate g;
        int ran = 0;
        int ran_in_time = 0; // before the timer fired, which was due after the first
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { g.pass_until(outside.now() + 1ms); });
            for (int i = 0; i < 10'000; ++i)
                n.spawn([&] {
                    outside.advance(1ms);
                    ++ran;
                    ran_in_time += g.waiting() == 1;
                });
        });
        CHECK(ran == 10'000);
        CHECK(ran_in_time > 0);
        CHECK(ran_in_time < 1'000);
        CHECK(outside.polls() >= 100);
    });
}

TEST_CASE("exit() inside a run is a clear error, not a hang") {
    CHECK_THAT(abort_of_run([] { std::exit(0); }), Catch::Contains("exit() inside io::run"));
}

TEST_CASE("exit() in a spawned fiber is a clear error, not a hang") {
    CHECK_THAT(abort_of_run([] {
                   creel::with_nursery([](creel::nursery& n) { n.spawn([] { std::exit(7); }); });
               }),
               Catch::Contains("exit() inside io::run"));
}
