// Fibers of several schedulers and plain threads at one queue at once, some of them cancelled all
// the time: what goes in comes out, once.
#include <creel/sync/priority_queue.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/stack_queue.hpp>

#include "support/fixture.hpp"
#include "support/sanitizers.hpp"
#include "support/seed.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <random>
#include <span>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::priority_queue;
using creel::sync::queue;
using creel::sync::stack_queue;

namespace {

constexpr unsigned schedulers = 2;
constexpr unsigned fibers_each = 6;
constexpr unsigned plain_threads = 2;
constexpr int items_each = under_tsan ? 300 : 2000;

// One number in, one out: each is counted where it was pushed and where it was popped.
struct account {
    std::atomic<std::uint64_t> pushed{0};
    std::atomic<std::uint64_t> pushed_sum{0};
    std::atomic<std::uint64_t> popped{0};
    std::atomic<std::uint64_t> popped_sum{0};
};

template <typename Queue>
void produce(Queue& q, account& all, unsigned seed) {
    std::minstd_rand random{seed};
    for (int i = 0; i < items_each; ++i) {
        const int item = static_cast<int>(random() % 1000);
        bool in = false;
        switch (random() % 4) {
        case 0: // with a deadline that often passes
            static_cast<void>(creel::move_on_after(std::chrono::microseconds{random() % 30},
                                                   [&] { in = q.push(item); }));
            break;
        case 1:
            in = q.try_push(item);
            break;
        default:
            in = q.push(item);
        }
        if (in) {
            ++all.pushed;
            all.pushed_sum += static_cast<unsigned>(item);
        }
    }
}

template <typename Queue>
void consume(Queue& q, account& all, unsigned seed) {
    std::minstd_rand random{seed};
    std::vector<int> some(3);
    const auto count = [&](int item) {
        ++all.popped;
        all.popped_sum += static_cast<unsigned>(item);
        q.task_done();
    };
    for (;;) {
        switch (random() % 4) {
        case 0: {
            const auto item = creel::move_on_after(std::chrono::microseconds{random() % 30},
                                                   [&] { return q.pop(); });
            if (item && *item)
                count(**item);
            else if (item)
                return;
            break;
        }
        case 1:
            if (const auto item = q.try_pop())
                count(*item);
            break;
        case 2: {
            const std::size_t got = q.pop_some(some);
            if (got == 0)
                return;
            for (const int item : std::span{some}.first(got))
                count(item);
            break;
        }
        default:
            if (const auto item = q.pop())
                count(*item);
            else
                return;
        }
    }
}

} // namespace

TEMPLATE_TEST_CASE("what many threads push into a queue comes out once", "[queue][stress]",
                   queue<int>, priority_queue<int>, stack_queue<int>) {
    const std::size_t capacity = GENERATE(0U, 1U, 16U);
    const unsigned seed = printed_seed("queue stress");
    CAPTURE(capacity, seed);
    account all;
    TestType q{capacity};
    std::atomic<unsigned> producers{schedulers * fibers_each + plain_threads};
    // Each has a number of its own, whoever begins first: with the seed it is what it draws from.
    const auto producer = [&](unsigned number) {
        produce(q, all, seed + 2 * number);
        if (--producers == 0)
            q.close();
    };
    const auto consumer = [&](unsigned number) { consume(q, all, seed + 2 * number + 1); };
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < schedulers; ++i)
        threads.emplace_back([&, i] {
            run_virtually(
                [&] {
                    creel::with_nursery([&](creel::nursery& n) {
                        for (unsigned j = 0; j < fibers_each; ++j) {
                            n.spawn(
                                [&producer, number = i * fibers_each + j] { producer(number); });
                            n.spawn(
                                [&consumer, number = i * fibers_each + j] { consumer(number); });
                        }
                    });
                },
                {}, manual_poller::other_threads::yes);
        });
    for (unsigned i = 0; i < plain_threads; ++i) {
        threads.emplace_back(producer, schedulers * fibers_each + i);
        threads.emplace_back(consumer, schedulers * fibers_each + i);
    }
    for (auto& thread : threads)
        thread.join();
    q.join();
    CHECK(all.pushed == all.popped);
    CHECK(all.pushed_sum == all.popped_sum);
    const auto s = q.statistics();
    CHECK(s.pushed == all.pushed);
    CHECK(s.size == 0);
    CHECK(s.poppers == 0);
    CHECK(s.pushers == 0);
}
