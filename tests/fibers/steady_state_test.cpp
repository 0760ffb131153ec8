// Figures that must not grow: allocations once a program is warm, and memory once its fibers have
// ended.
#include "support/bare_waiter.hpp"
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/malloc_count.hpp"
#include "support/memory.hpp"
#include "support/sanitizers.hpp"
#include "support/seed.hpp"
#include "support/test_body.hpp"
#include "support/time_limit.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <malloc.h>

using namespace std::chrono_literals;
using namespace creel::test;

namespace {

// The number of calls of malloc in 200 rounds, after 20 other rounds.
std::uint64_t mallocs_when_warm(test_body<> round) {
    std::uint64_t calls = 0;
    run_virtually([&] {
        for (int i = 0; i < 20; ++i)
            round();
        const std::uint64_t before = malloc_calls();
        for (int i = 0; i < 200; ++i)
            round();
        calls = malloc_calls() - before;
    });
    return calls;
}

// Every level holds a number that must still be there when the next level has returned.
std::uint64_t sum_down(std::uint64_t depth, std::uint64_t salt) {
    volatile std::uint64_t here[32];
    for (std::size_t i = 0; i < 32; ++i)
        here[i] = salt + depth;
    if (depth % 64 == 0)
        creel::this_fiber::yield();
    const std::uint64_t below = depth == 0 ? 0 : sum_down(depth - 1, salt);
    for (std::size_t i = 1; i < 32; ++i)
        if (here[i] != here[0])
            return 0;
    return below + here[0];
}

} // namespace

TEST_CASE("the counter of allocations sees malloc and operator new") {
    if (!counts_malloc)
        return;
    const std::uint64_t before = malloc_calls();
    std::vector<std::string> some(3, std::string(100, 'x'));
    CHECK(malloc_calls() - before >= 4);
}

TEST_CASE("spawning and joining allocates nothing once it is warm") {
    CHECK(mallocs_when_warm([] {
              std::size_t ended = 0;
              creel::with_nursery([&](creel::nursery& n) {
                  for (int i = 0; i < 100; ++i)
                      n.spawn([&ended] { ++ended; });
                  for (int i = 0; i < 100; ++i)
                      n.spawn({.name = "named"}, [&ended] {
                          creel::this_fiber::yield();
                          ++ended;
                      });
              });
          }) == 0);
}

TEST_CASE("a result fetched from a child allocates nothing once it is warm") {
    CHECK(mallocs_when_warm([] {
              creel::with_nursery([](creel::nursery& n) {
                  auto t = n.async([] { return 42; });
                  static_cast<void>(t.get());
              });
          }) == 0);
}

TEST_CASE("parking and waking and sleeping allocate nothing once they are warm") {
    const creel::waiter_kind* const kind =
        GENERATE(&bare_waiter::cancellable, &bare_waiter::uncancellable);
    CHECK(mallocs_when_warm([&] {
              bare_waiter* waiting = nullptr;
              creel::with_nursery([&waiting, kind](creel::nursery& n) {
                  n.spawn([&waiting, kind] {
                      bare_waiter w{creel::withdrawal::pending, *kind};
                      waiting = &w;
                      static_cast<void>(creel::park(w));
                  });
                  n.spawn([&waiting] {
                      creel::this_fiber::sleep_for(1ms);
                      creel::wake(*waiting);
                  });
                  n.spawn([] { creel::fail_after(1h, [] { creel::this_fiber::sleep_for(2ms); }); });
              });
          }) == 0);
}

TEST_CASE("1,000 fibers that are each 150 KiB deep at once keep their frames to themselves") {
    const std::uint64_t depth = under_asan ? 100 : 384;
    const std::uint64_t count = under_tsan ? 200 : 1'000;
    std::size_t right = 0;
    run_virtually([&] {
        creel::with_nursery([&](creel::nursery& n) {
            for (std::uint64_t salt = 1; salt <= count; ++salt)
                n.spawn([&right, salt] {
                    const std::uint64_t sum = sum_down(depth, salt);
                    right += sum == (depth + 1) * salt + depth * (depth + 1) / 2 ? 1 : 0;
                });
        });
    });
    CHECK(right == count);
}

// TSan knows at most 8,128 fibers, and ASan's shadow is an eighth of every stack.
TEST_CASE("stress: 200,000 fibers parked and woken in random order leave nothing behind",
          "[stress]") {
    const std::size_t count = under_tsan ? 1'000 : (under_asan ? 20'000 : 200'000);
    const std::size_t least = under_tsan ? 300 : 20'000; // TSan takes 3 ms for a fiber
    std::minstd_rand random{printed_seed("parked and woken")};
    std::size_t parked = 0;
    const std::size_t mappings = mapping_count();
    const std::size_t resident = resident_bytes();
    std::size_t woken = 0;
    {
        std::vector<bare_waiter*> waiting;
        waiting.reserve(count);
        run_virtually([&] {
            creel::with_nursery([&](creel::nursery& n) {
                const time_limit limit{500ms};
                for (; parked < count && (parked < least || !limit.passed()); ++parked) {
                    n.spawn([&waiting, &woken] {
                        bare_waiter w;
                        waiting.push_back(&w);
                        static_cast<void>(creel::park(w));
                        ++woken;
                    });
                    creel::this_fiber::checkpoint();
                }
                while (waiting.size() < parked)
                    creel::this_fiber::yield();
                std::shuffle(waiting.begin(), waiting.end(), random);
                for (bare_waiter* w : waiting)
                    creel::wake(*w);
            });
        });
    }
    CHECK(woken == parked);
    if (under_asan || under_tsan)
        return; // they keep what they have mapped
    malloc_trim(0);
    CHECK(mapping_count() <= mappings + 20);
    CHECK(resident_bytes() < resident + parked * 67 + (std::size_t{4} << 20));
}
