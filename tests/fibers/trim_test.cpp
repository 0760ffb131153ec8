// The memory of a burst is given back by time: all of it, in portions, except stacks that are
// needed again.
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/memory.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include <malloc.h>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

constexpr int few_or(int many) {
    return under_asan || under_tsan ? 200 : many;
}

template <std::size_t Bytes>
[[gnu::noinline]] void touch_stack() {
    std::array<char, Bytes> deep;
    std::memset(deep.data(), 1, deep.size());
    asm volatile("" ::"r"(deep.data()) : "memory");
}

// All at the same time.
template <std::size_t DepthBytes>
void run_fibers(int count, creel::spawn_options options = {}) {
    gate all_there;
    creel::with_nursery([&](creel::nursery& n) {
        for (int i = 0; i < count; ++i)
            n.spawn(options, [&] {
                touch_stack<DepthBytes>();
                all_there.pass();
            });
        creel::this_fiber::sleep_for(1ms);
        all_there.open();
    });
}

// Runs burst in a run that has gone on for a while, and a second of quiet after it.
template <typename F>
void check_that_a_second_gives_back(F burst) {
    run_virtually([&](manual_poller& outside) {
        run_fibers<100>(10);
        creel::this_fiber::sleep_for(1s);
        const std::size_t before = resident_bytes();
        burst();
        creel::this_fiber::sleep_for(1s);
        ::malloc_trim(0);               // malloc may keep some memory
        if (!under_asan && !under_tsan) // which keep freed memory
            CHECK(resident_bytes() <= before + (std::size_t{4} << 20));
        const int waits = outside.waits();
        creel::this_fiber::sleep_for(1h);
        CHECK(outside.waits() == waits + 1); // no wake is due
        burst();                             // the stacks given back serve again
    });
}

} // namespace

TEST_CASE("after a second of quiet the stacks of a burst of fibers are given back") {
    check_that_a_second_gives_back([] { run_fibers<100>(few_or(20'000)); });
}

TEST_CASE("after a second of quiet deep stacks are given back, of idle carriers as well") {
    check_that_a_second_gives_back([] { run_fibers<200'000>(few_or(400)); });
}

TEST_CASE("after a second of quiet stacks of a spawn's own size are given back") {
    check_that_a_second_gives_back(
        [] { run_fibers<800'000>(few_or(100), {.stack_bytes = 1 << 20}); });
}

TEST_CASE("after a second of quiet the nodes of tasks of all sizes are given back") {
    check_that_a_second_gives_back([] {
        creel::with_nursery([](creel::nursery& n) {
            for (int i = 0; i < few_or(100'000); ++i) {
                n.spawn([] {});
                n.spawn([owned = std::array<char, 200>{}] { static_cast<void>(owned); });
                n.spawn([owned = std::array<char, 500>{}] { static_cast<void>(owned); });
            }
            n.cancel(); // none of them runs
        });
    });
}

TEST_CASE("after a second of quiet the room of a burst of timers is given back") {
    check_that_a_second_gives_back([] {
        creel::with_nursery([](creel::nursery& n) {
            for (int i = 1; i <= few_or(10'000); ++i)
                n.spawn([i] { creel::this_fiber::sleep_for(i * 1us); });
        });
    });
}

TEST_CASE("a burst is given back while other fibers keep the thread from ever being idle") {
    run_virtually([](manual_poller& outside) {
        run_fibers<100>(few_or(5'000));
        const auto end = outside.now() + 1s;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 2; ++i)
                n.spawn([&] {
                    while (outside.now() < end) {
                        outside.advance(100us);
                        creel::this_fiber::yield();
                    }
                });
        });
        CHECK(creel::statistics().fibers_alive <= 100);
    });
}

TEST_CASE("what a load needs again and again stays") {
    run_virtually([] {
        const int count = few_or(1'000);
        run_fibers<100>(count);
        const auto created = creel::statistics().fibers_created;
        for (int i = 0; i < 50; ++i) {
            creel::this_fiber::sleep_for(200ms);
            run_fibers<100>(count);
        }
        CHECK(creel::statistics().fibers_created == created);
    });
}

TEST_CASE("a burst is given back in portions, between which the outside world is polled") {
    run_virtually([](manual_poller& outside) {
        run_fibers<100>(few_or(4'000));
        std::uint64_t largest = 0;
        std::uint64_t before = creel::statistics().fibers_alive;
        for (int i = 0; i < 10'000; ++i) { // polls
            outside.next_poll([&] {
                const auto now = creel::statistics().fibers_alive;
                largest = std::max(largest, before - now);
                before = now;
            });
            outside.advance(100us);
            creel::this_fiber::yield();
        }
        CHECK(before <= 100);
        CHECK(largest <= 512);
    });
}
