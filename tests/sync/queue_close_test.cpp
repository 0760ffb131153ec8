// The close matrix, cell by cell: three ways to close a queue x the call that is blocked at it x
// the place where that runs x its capacity x whether the first blocked call is cancelled in the
// same instant. The same few steps drive each cell. Then come the cases outside the matrix.
#include <creel/sync/priority_queue.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/select.hpp>
#include <creel/sync/stack_queue.hpp>

#include "support/becomes_true.hpp"
#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/sync/event.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <thread>
#include <utility>
#include <vector>

using namespace creel::test;
using namespace creel::sync;

namespace {

enum class closing { drain, discard, drain_then_discard };
enum class blocked { push, pop, pop_some, join, select_push, select_pop };
enum class place { own_thread, other_threads, plain_threads, both };
enum class first_cancelled { no, before_the_close, after_the_close };

struct cell {
    closing how;
    blocked in;
    place where;
    std::size_t capacity;
    first_cancelled ahead;

    // Only undone items that lie in the queue are dropped; with capacity 0 the item is under way.
    [[nodiscard]] bool close_wakes() const {
        return in != blocked::join || (capacity != 0 && how != closing::drain);
    }
    [[nodiscard]] bool pushes() const { return in == blocked::push || in == blocked::select_push; }
};

constexpr std::array closing_names{"drain", "discard", "drain then discard"};
constexpr std::array blocked_names{"push", "pop", "pop_some", "join", "select push", "select pop"};
constexpr std::array place_names{"own thread", "other threads", "plain threads",
                                 "plain and other threads"};
constexpr std::array ahead_names{"nobody", "before the close", "after the close"};

template <typename Enum, std::size_t N>
const char* name(Enum value, const std::array<const char*, N>& names) {
    return names.at(static_cast<std::size_t>(value));
}

std::ostream& operator<<(std::ostream& out, const cell& c) {
    return out << "close: " << name(c.how, closing_names) << ", blocked in "
               << name(c.in, blocked_names) << " on " << name(c.where, place_names) << ", capacity "
               << c.capacity << ", first cancelled " << name(c.ahead, ahead_names);
}

// How a blocked call returned: as from a closed queue (or a joined one), or otherwise.
enum class ending { none, closed, cancelled, moved };

template <typename Queue>
ending wait_at(Queue& q, blocked in) {
    event never;
    int item = 7;
    std::array<int, 2> some{};
    bool moved = false;
    switch (in) {
    case blocked::push:
        moved = q.push(item);
        break;
    case blocked::pop:
        moved = q.pop().has_value();
        break;
    case blocked::pop_some:
        moved = q.pop_some(some) != 0;
        break;
    case blocked::join:
        q.join();
        break;
    case blocked::select_push:
        select(on_push(q, item, [&](bool in_it) { moved = in_it; }), on_set(never));
        break;
    case blocked::select_pop:
        select(on_set(never), on_pop(q, [&](std::optional<int> got) { moved = got.has_value(); }));
        break;
    }
    return moved ? ending::moved : ending::closed;
}

struct participant {
    creel::cancel_token stop{};
    std::atomic<ending> ended{ending::none};

    template <typename Queue>
    void run(Queue& q, blocked in) {
        ending how = ending::cancelled;
        static_cast<void>(stop.run([&] { how = wait_at(q, in); }));
        ended = how;
    }
};

// The number of waiters in the list that the cell is about.
template <typename Queue>
std::size_t waiting(const Queue& q, blocked in) {
    const auto s = q.statistics();
    switch (in) {
    case blocked::push:
    case blocked::select_push:
        return s.pushers;
    case blocked::join:
        return s.joiners;
    default:
        return s.poppers;
    }
}

// Brings the queue to where the cell's call blocks. On no scheduler. Returns how many items are
// undone.
template <typename Queue>
std::size_t prepare(Queue& q, const cell& c) {
    if (!c.pushes() && c.in != blocked::join)
        return 0;
    for (std::size_t i = 0; i < c.capacity; ++i)
        CHECK(q.push(1));
    if (c.capacity != 0 || c.pushes())
        return c.capacity;
    std::thread taker{[&] { static_cast<void>(q.pop()); }}; // it has not called task_done()
    CHECK(q.push(1));
    taker.join();
    return 1;
}

// Closes, and returns how many items that dropped. `in_between` runs before the second of two
// closes.
template <typename Queue, typename F>
std::size_t close(Queue& q, closing how, F in_between) {
    if (how != closing::discard)
        q.close();
    if (how == closing::drain_then_discard)
        in_between();
    return how != closing::drain ? q.close(discard) : 0;
}

// After a close the items that are left, `items` of them, can be popped; and it stays closed.
template <typename Queue>
void check_rest(Queue& q, std::size_t items) {
    CHECK(q.closed());
    CHECK(!q.try_push(1));
    CHECK(!q.push(1));
    CHECK(q.size() == items);
    while (q.pop())
        q.task_done();
    CHECK(!q.try_pop());
    CHECK(q.close(discard) == 0); // again, and again with nothing in it
    q.close();
    q.join();
    const auto s = q.statistics();
    CHECK(s.size == 0);
    CHECK(s.unfinished == 0);
    CHECK(s.pushers + s.poppers + s.joiners == 0);
}

template <typename Queue>
void close_and_look(Queue& q, const cell& c, std::size_t undone) {
    const std::size_t blocked_before = waiting(q, c.in);
    const std::size_t stored = c.capacity == 0 ? 0 : undone;
    const std::size_t dropped = close(q, c.how, [&] {
        CHECK(q.size() == stored);
        if (c.in == blocked::join)
            CHECK(waiting(q, c.in) >= blocked_before - 1); // the cancelled one may have left
    });
    CHECK(dropped == (c.how == closing::drain ? 0 : stored));
    if (c.close_wakes())
        CHECK(waiting(q, c.in) == 0); // at once: all are off the list, cancelled or not
    CHECK(q.closed());
}

// The endings of the first blocked call that are right when it is cancelled.
bool right_for_the_first(ending got, const cell& c) {
    if (c.ahead == first_cancelled::no)
        return got == ending::closed;
    if (c.ahead == first_cancelled::after_the_close && c.close_wakes())
        return got == ending::closed; // success beats a late cancel
    if (c.where == place::own_thread)
        return got == ending::cancelled;
    return got == ending::cancelled || got == ending::closed; // a race between threads
}

constexpr std::size_t parties = 3;

// `start` runs a function as several parties at the place of the cell.
template <typename Queue, typename Start>
void drive(Queue& q, const cell& c, std::size_t undone, std::array<participant, parties>& all,
           Start&& start) {
    start([&] { all[0].run(q, c.in); });
    CHECK(becomes_true([&] { return waiting(q, c.in) == 1; }));
    for (std::size_t i = 1; i < parties; ++i)
        start([&q, &c, &who = all[i]] { who.run(q, c.in); });
    CHECK(becomes_true([&] { return waiting(q, c.in) == parties; }));

    if (c.ahead == first_cancelled::before_the_close)
        all[0].stop.cancel();
    close_and_look(q, c, undone);
    if (c.ahead == first_cancelled::after_the_close)
        all[0].stop.cancel();

    if (!c.close_wakes()) {
        CHECK(waiting(q, c.in) >= parties - 1);
        while (q.try_pop())
            q.task_done();
        if (c.capacity == 0)
            q.task_done();
    }
    const bool all_woken = becomes_true([&] {
        for (const participant& p : all)
            if (p.ended == ending::none)
                return false;
        return true;
    });
    CHECK(all_woken);
    if (!all_woken) // so that the test ends, and says so
        for (const participant& p : all)
            p.stop.cancel("a wake was lost");
}

template <typename Queue>
void drive_elsewhere(Queue& q, const cell& c, std::size_t undone,
                     std::array<participant, parties>& all) {
    std::vector<std::thread> threads;
    drive(q, c, undone, all, [&](std::function<void()> wait) {
        const bool plain =
            c.where == place::plain_threads || (c.where == place::both && threads.size() % 2 == 0);
        threads.emplace_back([wait = std::move(wait), plain] {
            if (plain)
                wait();
            else
                run_virtually(wait, {}, manual_poller::other_threads::yes);
        });
    });
    for (std::thread& t : threads)
        t.join();
}

template <typename Queue>
void run_cell(const cell& c) {
    CAPTURE(c);
    Queue q{c.capacity};
    const std::size_t undone = prepare(q, c);
    std::array<participant, parties> all;
    if (c.where == place::own_thread) {
        const auto left = run_virtually([&] {
            creel::with_nursery([&](creel::nursery& n) {
                drive(q, c, undone, all, [&](auto wait) { n.spawn(std::move(wait)); });
            });
        });
        CHECK(left == nothing);
    } else {
        drive_elsewhere(q, c, undone, all);
    }
    CHECK(right_for_the_first(all[0].ended, c));
    for (std::size_t i = 1; i < parties; ++i)
        CHECK(all[i].ended == ending::closed);
    check_rest(q, c.pushes() && c.how == closing::drain ? c.capacity : 0);
}

template <typename Queue>
void run_cells(place where, first_cancelled ahead) {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{2}})
        for (const closing how : {closing::drain, closing::discard, closing::drain_then_discard})
            for (const blocked in : {blocked::push, blocked::pop, blocked::pop_some, blocked::join,
                                     blocked::select_push, blocked::select_pop})
                run_cell<Queue>({how, in, where, capacity, ahead});
}

} // namespace

#define EVERY_QUEUE queue<int>, priority_queue<int>, stack_queue<int>

TEMPLATE_TEST_CASE("close matrix: every way to close wakes every blocked call", "[queue][close]",
                   EVERY_QUEUE) {
    const auto where =
        GENERATE(place::own_thread, place::other_threads, place::plain_threads, place::both);
    run_cells<TestType>(where, first_cancelled::no);
}

TEMPLATE_TEST_CASE("close matrix: also those behind one that is cancelled just before the close",
                   "[queue][close]", EVERY_QUEUE) {
    const auto where =
        GENERATE(place::own_thread, place::other_threads, place::plain_threads, place::both);
    run_cells<TestType>(where, first_cancelled::before_the_close);
}

TEMPLATE_TEST_CASE("close matrix: a cancel just after the close is too late", "[queue][close]",
                   EVERY_QUEUE) {
    const auto where =
        GENERATE(place::own_thread, place::other_threads, place::plain_threads, place::both);
    run_cells<TestType>(where, first_cancelled::after_the_close);
}

TEMPLATE_TEST_CASE("closing a queue ends pop and pop_some that wait side by side", "[queue][close]",
                   EVERY_QUEUE) {
    const auto how = GENERATE(closing::drain, closing::discard, closing::drain_then_discard);
    const std::size_t capacity = GENERATE(0U, 2U);
    CAPTURE(name(how, closing_names), capacity);
    constexpr std::array calls{blocked::pop, blocked::pop_some, blocked::select_pop};
    std::array<participant, calls.size()> all;
    const auto left = run_virtually([&] {
        TestType q{capacity};
        creel::with_nursery([&](creel::nursery& n) {
            for (std::size_t i = 0; i < calls.size(); ++i)
                n.spawn([&, i] { all[i].run(q, calls[i]); });
            settle();
            CHECK(q.statistics().poppers == calls.size());
            const std::size_t dropped = close(q, how, [] {});
            CHECK(dropped == 0);
        });
        check_rest(q, 0);
    });
    for (const participant& p : all)
        CHECK(p.ended == ending::closed);
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("a queue that drains can still be closed at once and pops and joins in between "
                   "count",
                   "[queue][close]", EVERY_QUEUE) {
    const auto left = run_virtually([] {
        TestType q{3};
        participant pusher;
        participant joiner;
        participant late_joiner;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                CHECK(q.push(1));
            n.spawn([&] { pusher.run(q, blocked::push); });
            n.spawn([&] { joiner.run(q, blocked::join); });
            creel::this_fiber::yield();

            q.close();
            CHECK(q.pop());
            n.spawn([&] { late_joiner.run(q, blocked::join); });
            creel::this_fiber::yield();
            CHECK(pusher.ended == ending::closed); // and its item has not come in
            CHECK(q.size() == 2);
            CHECK(q.statistics().joiners == 2);

            CHECK(q.close(discard) == 2);
            CHECK(!q.pop());
            CHECK(q.statistics().joiners == 2); // the item that was popped is under way
            q.task_done();
        });
        CHECK(joiner.ended == ending::closed);
        CHECK(late_joiner.ended == ending::closed);
        CHECK(q.statistics().dropped == 2);
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("join of a closed queue waits for what is left to do", "[queue][close]",
                   EVERY_QUEUE) {
    const auto how = GENERATE(closing::drain, closing::discard, closing::drain_then_discard);
    const auto left = run_virtually([&] {
        TestType q{3};
        bool joined = false;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                CHECK(q.push(1));
            CHECK(q.pop()); // one is under way
            n.spawn([&] {
                q.join();
                joined = true;
            });
            settle();
            const std::size_t dropped = close(q, how, [] {});
            CHECK(dropped == (how == closing::drain ? 0 : 2));
            settle();
            CHECK(!joined);
            q.task_done();
            settle();
            CHECK(joined == (how != closing::drain)); // dropped items count as done
            check_rest(q, how == closing::drain ? 2 : 0);
        });
        CHECK(joined);
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE(
    "bug: a join that waits while the queue is closed and emptied returns after the items end", "",
    queue<std::shared_ptr<int>>, stack_queue<std::shared_ptr<int>>) {
    int alive = 0;
    int alive_at_return = -1;
    const auto left = run_virtually([&] {
        TestType q{2};
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 2; ++i) {
                ++alive;
                CHECK(q.push(std::shared_ptr<int>(&alive, [](int* count) {
                    settle(); // every waiter that was woken goes on
                    --*count;
                })));
            }
            n.spawn([&] {
                q.join();
                alive_at_return = alive;
            });
            settle();
            CHECK(q.statistics().joiners == 1);
            CHECK(q.close(discard) == 2);
        });
    });
    CHECK(alive_at_return == 0);
    CHECK(left == nothing);
}

TEST_CASE("a program that uses creel and creel::sync can write now()") {
    using namespace creel; // sync is used by the whole file
    const time_point time = now();
    CHECK(time != time_point::min());
}
