// Fibers of several schedulers and plain threads at one queue at once, some of them cancelled again
// and again: each item that goes in comes out, once.
#include <creel/sync/priority_queue.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/stack_queue.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"

#include <creel/fibers/cancel_scope.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using namespace creel::sync;

namespace {

// One number in, one out: each is counted where it was pushed and where it was popped.
struct account {
    std::atomic<std::uint64_t> pushed{0};
    std::atomic<std::uint64_t> pushed_sum{0};
    std::atomic<std::uint64_t> popped{0};
    std::atomic<std::uint64_t> popped_sum{0};
};

template <typename Queue>
void produce(Queue& q, account& all, crowd_member& me) {
    for (int i = 0; me.goes_on(i, 10'000); ++i) {
        const int item = static_cast<int>(me.random() % 1000);
        bool in = false;
        switch (me.random() % 4) {
        case 0: // with a deadline that often passes
            static_cast<void>(creel::move_on_after(std::chrono::microseconds{me.random() % 30},
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
void consume(Queue& q, account& all, crowd_member& me) {
    std::vector<int> some(3);
    const auto count = [&](int item) {
        ++all.popped;
        all.popped_sum += static_cast<unsigned>(item);
        q.task_done();
    };
    for (;;) {
        switch (me.random() % 4) {
        case 0: {
            const auto item = creel::move_on_after(std::chrono::microseconds{me.random() % 30},
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

TEMPLATE_TEST_CASE("stress: what many threads push into a queue comes out once", "[queue][stress]",
                   queue<int>, priority_queue<int>, stack_queue<int>) {
    const std::size_t capacity = GENERATE(0U, 1U, 16U);
    CAPTURE(capacity);
    const crowd_options who{
        .fibers_each = 12, .plain_threads = 4, .virtual_time = true, .time = 600ms};
    account all;
    TestType q{capacity};
    std::atomic<unsigned> producers{members_of(who) / 2};
    run_crowd("queue stress", who, [&](crowd_member& me) {
        if (me.number % 2 != 0) {
            consume(q, all, me);
            return;
        }
        produce(q, all, me);
        if (--producers == 0)
            q.close();
    });
    q.join();
    CHECK(all.pushed > 0);
    CHECK(all.pushed == all.popped);
    CHECK(all.pushed_sum == all.popped_sum);
    const auto s = q.statistics();
    CHECK(s.pushed == all.pushed);
    CHECK(s.size == 0);
    CHECK(s.poppers == 0);
    CHECK(s.pushers == 0);
}
