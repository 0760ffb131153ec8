#include <creel/fibers/detail/time/timer_queue.hpp>

#include "support/check.hpp"
#include "support/malloc_count.hpp"
#include "support/sanitizers.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <vector>

namespace {

using namespace std::chrono_literals;
using creel::duration;
using creel::time_point;
using creel::detail::timer;
using creel::detail::timer_queue;

// A steady clock may begin anywhere; this one begins far from zero.
constexpr time_point start{1'000'000s};

// More than there are slots for lists, so that some of them share one, whatever the hash.
std::vector<duration> more_durations_than_slots() {
    std::vector<duration> spans;
    for (int index = 1; index <= 200; ++index)
        spans.push_back(index * 7ms);
    return spans;
}

std::vector<timer*> pointers_to(std::vector<timer>& timers, std::size_t count) {
    std::vector<timer*> pointers;
    for (std::size_t index = 0; index != count; ++index)
        pointers.push_back(&timers[index]);
    return pointers;
}

std::vector<timer*> pop_all(timer_queue& queue, time_point now) {
    std::vector<timer*> popped;
    while (timer* due = queue.pop_due(now))
        popped.push_back(due);
    return popped;
}

} // namespace

TEST_CASE("an empty timer queue has no deadline and nothing due") {
    timer_queue queue;
    CHECK(queue.empty());
    CHECK(queue.size() == 0);
    CHECK(queue.next_deadline() == time_point::max());
    CHECK(queue.pop_due(time_point::max()) == nullptr);
}

TEST_CASE("a timer is due at its deadline and not a nanosecond before") {
    const duration span = GENERATE(duration{0}, duration{30s});
    timer_queue queue;
    timer only;
    CHECK_FALSE(only.armed());
    queue.arm(only, start + 30s, span);
    CHECK(only.armed());
    CHECK(only.deadline() == start + 30s);
    CHECK(queue.size() == 1);
    CHECK(queue.next_deadline() == start + 30s);
    CHECK(queue.pop_due(start + 30s - 1ns) == nullptr);
    CHECK(only.armed());
    CHECK(queue.pop_due(start + 30s) == &only);
    CHECK_FALSE(only.armed());
    CHECK(queue.empty());
    CHECK(queue.next_deadline() == time_point::max());
}

TEST_CASE("a popped timer's fire is the one it was made with, and the queue does not call it") {
    struct counted : timer {
        int fired = 0;
        counted() : timer{[](timer& due) noexcept { ++static_cast<counted&>(due).fired; }} {}
    };
    timer_queue queue;
    counted one;
    queue.arm(one, start, 0ns);
    timer* due = queue.pop_due(start);
    REQUIRE(due == &one);
    CHECK(one.fired == 0);
    due->fire(*due);
    CHECK(one.fired == 1);
}

TEST_CASE("a cancelled timer never comes due, and cancelling twice changes nothing") {
    const duration span = GENERATE(duration{0}, duration{5ms});
    timer_queue queue;
    timer first, second, third;
    queue.arm(first, start + 5ms, span);
    queue.arm(second, start + 6ms, span);
    queue.arm(third, start + 7ms, span);
    queue.cancel(second);
    CHECK_FALSE(second.armed());
    CHECK(queue.size() == 2);
    queue.cancel(second);
    CHECK(queue.size() == 2);
    CHECK(pop_all(queue, start + 1s) == std::vector<timer*>{&first, &third});
}

TEST_CASE("timers of one duration, of many durations and of none come due in one exact order") {
    timer_queue queue;
    const std::vector<duration> spans = more_durations_than_slots();
    std::vector<std::unique_ptr<timer>> timers;
    // Later arms of long durations alternate with earlier arms of short durations.
    for (int round = 0; round < 20; ++round)
        for (std::size_t index = 0; index != spans.size(); ++index) {
            const time_point now = start + round * 11ms;
            timers.push_back(std::make_unique<timer>());
            const duration span = index % 3 == 0 ? duration{0} : spans[index];
            queue.arm(*timers.back(), now + spans[index], span);
        }
    std::vector<timer*> expected;
    for (const auto& each : timers)
        expected.push_back(each.get());
    std::stable_sort(expected.begin(), expected.end(), [](timer* left, timer* right) {
        return left->deadline() < right->deadline();
    });
    CHECK(queue.size() == expected.size());
    CHECK(pop_all(queue, start + 1h) == expected);
    CHECK(queue.empty());
}

TEST_CASE("equal deadlines come in the order of arming, whichever way each was armed") {
    timer_queue queue;
    const std::vector<duration> spans = more_durations_than_slots();
    std::vector<std::unique_ptr<timer>> timers;
    std::vector<timer*> expected;
    for (int round = 0; round < 3; ++round)
        for (const duration span : spans) {
            timers.push_back(std::make_unique<timer>());
            expected.push_back(timers.back().get());
            queue.arm(*timers.back(), start + 1h, expected.size() % 5 == 0 ? 0ns : span);
        }
    CHECK(queue.pop_due(start + 1h - 1ns) == nullptr);
    CHECK(pop_all(queue, start + 1h) == expected);
}

TEST_CASE(
    "a list whose first timers were cancelled keeps a lower bound, put right when it is due") {
    timer_queue queue;
    timer early, late, other;
    queue.arm(early, start + 10ms, 10ms);
    queue.arm(late, start + 20ms, 10ms);
    queue.arm(other, start + 15ms, 0ns);
    queue.cancel(early);
    CHECK(queue.next_deadline() <= start + 15ms);
    CHECK(queue.pop_due(start + 12ms) == nullptr);
    CHECK(queue.next_deadline() == start + 15ms);
    CHECK(queue.pop_due(start + 25ms) == &other);
    CHECK(queue.pop_due(start + 25ms) == &late);
    CHECK(queue.pop_due(start + 25ms) == nullptr);
}

TEST_CASE("a list that ran empty holds up no other timer and serves its duration again") {
    timer_queue queue;
    timer repeated, other;
    for (int round = 0; round < 1000; ++round) {
        queue.arm(repeated, start + round * 1us + 30s, 30s);
        queue.cancel(repeated);
    }
    CHECK(queue.empty());
    CHECK(queue.next_deadline() == time_point::max());
    queue.arm(other, start + 40s, 0ns);
    CHECK(queue.next_deadline() <= start + 40s);
    CHECK(queue.pop_due(start + 35s) == nullptr);
    CHECK(queue.next_deadline() == start + 40s);
    queue.arm(repeated, start + 36s, 30s);
    CHECK(queue.next_deadline() == start + 36s);
    CHECK(pop_all(queue, start + 40s) == std::vector<timer*>{&repeated, &other});
}

TEST_CASE("a slot left by a long duration serves a short one with the short deadline") {
    // All 200 durations pass through all slots; each leaves a node that is later than the next
    // timers.
    timer_queue queue;
    std::vector<duration> spans = more_durations_than_slots();
    std::reverse(spans.begin(), spans.end());
    timer one;
    for (const duration span : spans) {
        queue.arm(one, start + span, span);
        CHECK(queue.next_deadline() <= start + span);
        queue.cancel(one);
    }
    timer last;
    queue.arm(last, start + 1ns, 1ns);
    CHECK(queue.next_deadline() == start + 1ns);
    CHECK(queue.pop_due(start + 1ns) == &last);
}

TEST_CASE("a deadline before the last of its list is still exact") {
    timer_queue queue;
    timer first, backwards, after;
    queue.arm(first, start + 10ms, 10ms);
    queue.arm(backwards, start + 9ms, 10ms);
    queue.arm(after, start + 11ms, 10ms);
    CHECK(queue.next_deadline() == start + 9ms);
    CHECK(pop_all(queue, start + 1s) == std::vector<timer*>{&backwards, &first, &after});
}

TEST_CASE("a deadline of time_point::max() is armed, counted, cancelled, and never due") {
    const duration span = GENERATE(duration{0}, duration{1h}, duration::max());
    timer_queue queue;
    timer endless, ended;
    queue.arm(endless, time_point::max(), span);
    CHECK(endless.armed());
    CHECK(queue.size() == 1);
    CHECK(queue.next_deadline() == time_point::max());
    CHECK(queue.pop_due(time_point::max()) == nullptr);
    queue.arm(ended, time_point::max() - 1ns, span);
    CHECK(queue.next_deadline() == time_point::max() - 1ns);
    CHECK(queue.pop_due(time_point::max() - 2ns) == nullptr);
    CHECK(queue.pop_due(time_point::max()) == &ended);
    CHECK(queue.size() == 1);
    queue.cancel(endless);
    CHECK_FALSE(endless.armed());
    CHECK(queue.empty());
}

TEST_CASE("deadlines in the past, before the epoch and with negative durations are due in order") {
    timer_queue queue;
    timer least, negative, past;
    queue.arm(past, start - 1h, 1ms);
    queue.arm(negative, time_point{-5s}, -5s);
    queue.arm(least, time_point::min(), duration::min());
    CHECK(pop_all(queue, start) == std::vector<timer*>{&least, &negative, &past});
}

TEST_CASE("between two pops any timer may be armed and cancelled, also the one just popped") {
    timer_queue queue;
    timer again, doomed, added, last;
    queue.arm(again, start + 1ms, 1ms);
    queue.arm(doomed, start + 2ms, 1ms);
    queue.arm(last, start + 4ms, 0ns);
    const time_point now = start + 10ms;
    REQUIRE(queue.pop_due(now) == &again);
    queue.cancel(doomed);
    queue.arm(added, start + 3ms, 1ms);
    queue.arm(again, now, 1ms);
    queue.cancel(again);
    queue.arm(again, now + 1ns, 1ms);
    CHECK(queue.pop_due(now) == &added);
    CHECK(queue.pop_due(now) == &last);
    CHECK(queue.pop_due(now) == nullptr);
    CHECK(queue.size() == 1);
    CHECK(queue.pop_due(now + 1ns) == &again);
}

TEST_CASE("a timer's memory is free for use as soon as it is cancelled or popped") {
    timer_queue queue;
    for (const duration span : {duration{0}, duration{1ms}}) {
        std::vector<std::unique_ptr<timer>> timers;
        for (int index = 0; index < 1000; ++index) {
            timers.push_back(std::make_unique<timer>());
            queue.arm(*timers.back(), start + index * 1us, span);
        }
        // ASan reports a touch of the timers that are destroyed.
        for (std::size_t index = 0; index < timers.size(); index += 2) {
            queue.cancel(*timers[index]);
            timers[index].reset();
        }
        std::size_t popped = 0;
        while (timer* due = queue.pop_due(start + 1h)) {
            std::find_if(timers.begin(), timers.end(), [due](const auto& each) {
                return each.get() == due;
            })->reset();
            ++popped;
        }
        CHECK(popped == 500);
    }
}

TEST_CASE("a trimmed queue goes on with what is armed") {
    timer_queue queue;
    timer listed;
    queue.arm(listed, start + 30s, 30s);
    {
        std::vector<timer> many(10'000);
        for (std::size_t index = 0; index != many.size(); ++index)
            queue.arm(many[index], start + static_cast<int>(index * 7919 % many.size()) * 1us, 0ns);
        queue.trim(); // the heap is in use: nothing to give back
        time_point previous{};
        std::size_t popped = 0;
        while (timer* due = queue.pop_due(start + 1s)) {
            if (due->deadline() < previous)
                FAIL("out of order");
            previous = due->deadline();
            if (++popped % 1'000 == 0)
                queue.trim(); // more and more of it
        }
    }
    queue.trim();
    CHECK(!queue.has_surplus());
    CHECK(queue.size() == 1);
    timer late;
    queue.arm(late, start + 31s, 0ns);
    CHECK(queue.next_deadline() == start + 30s);
    CHECK(pop_all(queue, start + 1h) == std::vector<timer*>{&listed, &late});
}

TEST_CASE("when the heap cannot grow, arm throws, nothing is armed, and the queue goes on") {
    if (!creel::test::counts_malloc) // a sanitizer's malloc is never refused
        return;
    timer_queue queue;
    std::vector<timer> many(1'000);
    std::size_t armed = 0;
    const auto arm_all = [&] {
        const creel::test::no_memory any;
        for (; armed != many.size(); ++armed)
            queue.arm(many[armed], start + static_cast<int>(armed) * 1ns, 0ns);
    };
    CHECK_THROWS_AS(arm_all(), std::bad_alloc);
    REQUIRE(armed < many.size());
    CHECK(!many[armed].armed());
    CHECK(queue.size() == armed);
    const std::vector<timer*> in_order = pointers_to(many, armed + 1);
    {
        const creel::test::no_memory any;
        queue.arm(many[armed], start + 1h, 1h); // a list needs no memory
        queue.cancel(many[0]);
        queue.arm(many[0], start, 0ns); // in the room of a cancelled timer
    }
    CHECK(queue.size() == armed + 1);
    CHECK(pop_all(queue, start + 1h) == in_order);
    CHECK(queue.empty());
}

TEST_CASE("a timer is armed anew, or stays as it was when the heap cannot grow") {
    timer_queue queue;
    timer moved;
    queue.rearm(moved, start + 5s); // it was not armed
    queue.rearm(moved, start + 7s);
    CHECK(queue.size() == 1);
    CHECK(queue.pop_due(start + 6s) == nullptr);
    CHECK(queue.pop_due(start + 7s) == &moved);
    if (!creel::test::counts_malloc)
        return;
    queue.arm(moved, start + 1s, 1s); // in a list
    std::vector<timer> many(1'000);
    std::size_t armed = 0;
    const auto move_without_memory = [&] {
        const creel::test::no_memory any;
        try {
            for (; armed != many.size(); ++armed)
                queue.arm(many[armed], start + 1h, 0ns);
        } catch (const std::bad_alloc&) { // the heap is full
        }
        queue.rearm(moved, start + 2s);
    };
    CHECK_THROWS_AS(move_without_memory(), std::bad_alloc);
    REQUIRE(armed < many.size());
    CHECK(queue.size() == armed + 1);
    CHECK(queue.pop_due(start + 1s) == &moved);
    CHECK(pop_all(queue, start + 1h).size() == armed);
}

TEST_CASE("random operations agree with a multimap") {
    const auto seed = GENERATE(std::random_device{}(), 1U);
    std::mt19937_64 random{seed};
    CAPTURE(seed);
    const auto below = [&random](std::uint64_t limit) { return random() % limit; };

    // Few durations and many, long waits and short, ties and none: each round draws its own mix.
    for (int round = 0; round < (creel::test::under_tsan ? 6 : 30); ++round) {
        CAPTURE(round);
        timer_queue queue;
        std::multimap<time_point, timer*> reference;
        std::vector<timer> timers(1 + below(2000));
        const std::uint64_t durations = 1 + below(round % 2 == 0 ? 5 : 200);
        const auto tick = static_cast<duration::rep>(1 + below(1000));
        const std::uint64_t arm_weight = 1 + below(4);
        time_point now = start;

        for (int step = 0; step < 20'000; ++step) {
            timer& chosen = timers[below(timers.size())];
            const std::uint64_t action = below(arm_weight + 3);
            if (action >= 3) {
                if (chosen.armed())
                    continue;
                const duration span{static_cast<duration::rep>(below(durations)) * 64 * tick};
                const bool never = below(500) == 0;
                const duration skew{below(50) == 0 ? static_cast<duration::rep>(below(100)) : 0};
                const time_point deadline = never ? time_point::max() : now + span - skew;
                queue.arm(chosen, deadline, below(10) == 0 ? 0ns : span);
                reference.emplace(deadline, &chosen); // at the end of the equal ones
            } else if (action >= 1) {
                const auto [begin, end] = reference.equal_range(chosen.deadline());
                const auto found = std::find_if(
                    begin, end, [&chosen](const auto& each) { return each.second == &chosen; });
                if (chosen.armed() != (found != end))
                    FAIL("armed() is wrong");
                queue.cancel(chosen);
                if (found != end)
                    reference.erase(found);
            } else {
                now += duration{static_cast<duration::rep>(below(200)) * tick};
                const std::uint64_t most = below(4) == 0 ? below(5) : timers.size();
                for (std::uint64_t popped = 0; popped < most; ++popped) {
                    const auto first = reference.begin();
                    timer* const due = queue.pop_due(now);
                    if (first == reference.end() || first->first > now) {
                        if (due != nullptr)
                            FAIL("popped what is not due");
                        break;
                    }
                    if (due != first->second)
                        FAIL("popped another than the earliest");
                    if (due->armed())
                        FAIL("popped and still armed");
                    reference.erase(first);
                }
            }
            if (queue.size() != reference.size())
                FAIL("size() is wrong");
            if (reference.empty() ? queue.next_deadline() != time_point::max()
                                  : queue.next_deadline() > reference.begin()->first)
                FAIL("next_deadline() is later than the earliest");
            if (below(1000) == 0)
                queue.trim();
        }

        while (timer* const due = queue.pop_due(time_point::max())) {
            if (reference.begin()->second != due)
                FAIL("popped another than the earliest");
            reference.erase(reference.begin());
        }
        for (const auto& [deadline, left] : reference) {
            if (deadline != time_point::max())
                FAIL("a timer was lost");
            queue.cancel(*left);
        }
        CHECK(queue.empty());
    }
}
