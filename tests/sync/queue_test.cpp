// One suite for all queues, and tests of what only one queue promises. Closing is in
// queue_close_test.cpp, threads in queue_stress_test.cpp, items whose moves throw in
// throwing_elements_test.cpp.
#include <creel/sync/priority_queue.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/stack_queue.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using namespace creel::sync;

namespace {

struct by_target {
    bool operator()(const std::unique_ptr<int>& a, const std::unique_ptr<int>& b) const {
        return *a < *b;
    }
};

} // namespace

TEMPLATE_TEST_CASE("a queue holds as many items as its capacity says and no more", "[queue]",
                   queue<int>, priority_queue<int>, stack_queue<int>) {
    const auto left = run_virtually([] {
        TestType q{2};
        CHECK(q.capacity() == 2);
        CHECK(q.empty());
        CHECK(q.try_push(1));
        CHECK(q.push(1));
        CHECK(q.size() == 2);
        CHECK(!q.try_push(1));
        CHECK(*q.pop() == 1);
        CHECK(*q.try_pop() == 1);
        CHECK(!q.try_pop());
        CHECK(!q.closed());
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("a push into a full queue waits until there is room", "[queue]", queue<int>,
                   priority_queue<int>, stack_queue<int>) {
    std::string order;
    const auto left = run_virtually([&] {
        TestType q{1};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                for (int i = 0; i < 3; ++i)
                    if (q.push(std::move(i)))
                        order += static_cast<char>('a' + i);
            });
            settle();
            CHECK(order == "a");
            CHECK(q.statistics().pushers == 1);
            CHECK(*q.pop() == 0);
            CHECK(q.size() == 1); // the pop has let the waiting push in
            settle();
            CHECK(order == "ab");
            CHECK(*q.pop() == 1);
            CHECK(*q.pop() == 2);
        });
    });
    CHECK(order == "abc");
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("a pop of an empty queue waits for an item", "[queue]", queue<int>,
                   priority_queue<int>, stack_queue<int>) {
    std::vector<int> got;
    const auto left = run_virtually([&] {
        TestType q{3};
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 2; ++i)
                n.spawn([&] { got.push_back(q.pop().value()); });
            settle();
            CHECK(q.statistics().poppers == 2);
            CHECK(q.push(7));
            CHECK(q.empty()); // it was handed over, not stored
            CHECK(q.push(8));
        });
    });
    CHECK(got == std::vector{7, 8});
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("no call overtakes the waiters of a queue", "[queue]", queue<int>,
                   priority_queue<int>, stack_queue<int>) {
    std::vector<int> served;
    const auto left = run_virtually([&] {
        TestType q{1};
        creel::with_nursery([&](creel::nursery& n) {
            for (int who = 0; who < 4; ++who)
                n.spawn([&, who] {
                    if (q.pop())
                        served.push_back(who);
                });
            settle();
            CHECK(q.push(0));
            CHECK(!q.try_pop()); // the item belongs to the first waiter, which has not run yet
            for (int i = 1; i < 4; ++i)
                CHECK(q.push(0));
        });
        CHECK(served == std::vector{0, 1, 2, 3});
        served.clear();
        CHECK(q.push(9));
        creel::with_nursery([&](creel::nursery& n) {
            for (int who = 0; who < 3; ++who)
                n.spawn([&, who] {
                    if (q.push(std::move(who)))
                        served.push_back(who);
                });
            settle();
            CHECK(q.pop());
            CHECK(!q.try_push(9)); // the room belongs to the first waiter
            CHECK(q.pop());
            CHECK(q.pop());
            settle();
            CHECK(q.pop());
        });
        CHECK(served == std::vector{0, 1, 2});
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("a queue of capacity 0 is a rendezvous", "[queue]", queue<int>,
                   priority_queue<int>, stack_queue<int>) {
    std::string order;
    const auto left = run_virtually([&] {
        TestType q{0};
        CHECK(!q.try_push(1));
        CHECK(!q.try_pop());
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                CHECK(q.push(1));
                order += 'p';
                CHECK(q.push(2));
            });
            settle();
            CHECK(order.empty()); // no pop has taken it
            CHECK(*q.pop() == 1);
            settle();
            CHECK(order == "p");
            CHECK(*q.try_pop() == 2);
        });
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { CHECK(*q.pop() == 3); });
            settle();
            CHECK(q.try_push(3));
        });
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("a cancelled pop takes no item and a cancelled push leaves none", "[queue]",
                   queue<int>, priority_queue<int>, stack_queue<int>) {
    const auto left = run_virtually([] {
        TestType q{1};
        CHECK(!creel::move_on_after(1s, [&] { return q.pop(); }));
        CHECK(q.push(1));
        CHECK(q.size() == 1);
        CHECK(!creel::move_on_after(1s, [&] { return q.push(2); }));
        CHECK(*q.pop() == 1);
        CHECK(q.empty());
        CHECK(q.statistics().poppers == 0);
        CHECK(q.statistics().pushers == 0);
    });
    CHECK(left == nothing);
}

// asyncio's cancelled getters (bpo-22670 and later): the getter that was woken and then cancelled
// must not swallow the wake-up of the next.
TEMPLATE_TEST_CASE("the item handed to a popper that is then cancelled is not lost", "[queue]",
                   queue<int>, priority_queue<int>, stack_queue<int>) {
    std::vector<int> got;
    const auto left = run_virtually([&] {
        TestType q{4};
        creel::with_nursery([&](creel::nursery& n) {
            creel::cancel_scope first;
            n.spawn([&] { static_cast<void>(first.run([&] { got.push_back(q.pop().value()); })); });
            n.spawn([&] { got.push_back(10 * q.pop().value()); });
            settle();
            CHECK(q.push(1)); // the first getter has it
            first.cancel();   // too late: success beats it
            CHECK(q.push(2));
            settle();
        });
        CHECK(got == std::vector{1, 20});
        got.clear();
        creel::with_nursery([&](creel::nursery& n) {
            creel::cancel_scope first;
            n.spawn([&] { static_cast<void>(first.run([&] { got.push_back(q.pop().value()); })); });
            n.spawn([&] { got.push_back(10 * q.pop().value()); });
            settle();
            first.cancel(); // before anything else
            CHECK(q.push(1));
            settle();
        });
        CHECK(got == std::vector{10});
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("the room given to a pusher that is then cancelled is not lost", "[queue]",
                   queue<int>, priority_queue<int>, stack_queue<int>) {
    const auto left = run_virtually([] {
        TestType q{1};
        CHECK(q.push(1));
        creel::with_nursery([&](creel::nursery& n) {
            creel::cancel_scope first;
            bool pushed = false;
            n.spawn([&] { static_cast<void>(first.run([&] { pushed = q.push(2); })); });
            n.spawn([&] { CHECK(q.push(3)); });
            settle();
            CHECK(*q.pop() == 1);
            first.cancel();
            settle();
            CHECK(pushed);
            CHECK(*q.pop() == 2);
            CHECK(*q.pop() == 3);
        });
    });
    CHECK(left == nothing);
}

// Kotlin's withTimeout { channel.receive() } could lose the element (kotlinx.coroutines #1813).
TEMPLATE_TEST_CASE("an item that comes as the deadline passes is returned", "[queue]", queue<int>,
                   priority_queue<int>, stack_queue<int>) {
    const auto left = run_virtually([](manual_poller& outside) {
        TestType q{1};
        for (const auto when : {999ms, 1000ms}) {
            outside.after(when, [&] { static_cast<void>(q.try_push(5)); });
            const auto item = creel::move_on_after(1s, [&] { return q.pop(); });
            REQUIRE(item.has_value());
            CHECK(**item == 5);
        }
        outside.after(1001ms, [&] { static_cast<void>(q.try_push(6)); });
        CHECK(!creel::move_on_after(1s, [&] { return q.pop(); }));
        creel::this_fiber::sleep_for(1s);
        CHECK(*q.pop() == 6); // it stayed in the queue
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("in a cancelled scope push and pop throw although they need not wait", "[queue]",
                   queue<int>, priority_queue<int>, stack_queue<int>) {
    run_virtually([] {
        TestType q{2};
        CHECK(q.push(1));
        creel::cancel_scope scope;
        const bool ended = scope.run([&] {
            scope.cancel();
            CHECK(q.try_push(2)); // a try_ call does not check
            CHECK_THROWS_AS(q.push(3), creel::cancelled);
            CHECK_THROWS_AS(q.pop(), creel::cancelled);
            CHECK_THROWS_AS(q.join(), creel::cancelled);
        });
        CHECK(ended);
        CHECK(q.size() == 2);
    });
}

TEMPLATE_TEST_CASE("a queue that is never empty starves no fiber", "[queue]", queue<int>,
                   priority_queue<int>, stack_queue<int>) {
    run_virtually([] {
        TestType q{1};
        bool ran = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { ran = true; });
            for (int i = 0; i < 200; ++i) {
                CHECK(q.push(1));
                CHECK(q.pop());
            }
            CHECK(ran);
        });
    });
}

TEMPLATE_TEST_CASE("pop_some takes what there is but waits for the first", "[queue]", queue<int>,
                   priority_queue<int>, stack_queue<int>) {
    const auto left = run_virtually([] {
        TestType q{3};
        std::array<int, 4> some{};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                for (int i = 0; i < 5; ++i)
                    CHECK(q.push(1));
            });
            settle();
            CHECK(q.pop_some(some) == 4); // the pushers that wait come in meanwhile
            settle();
            CHECK(q.pop_some(some) == 1);
            n.spawn([&] {
                settle();
                CHECK(q.push(9));
                q.close();
            });
            CHECK(q.pop_some(some) == 1);
            CHECK(some[0] == 9);
            CHECK(q.pop_some(some) == 0);
            CHECK(q.pop_some({}) == 0);
        });
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("join waits until every item was done", "[queue]", queue<int>,
                   priority_queue<int>, stack_queue<int>) {
    const auto left = run_virtually([] {
        TestType q{2};
        q.join(); // nothing was pushed
        bool joined = false;
        creel::with_nursery([&](creel::nursery& n) {
            CHECK(q.push(1));
            CHECK(q.push(2));
            n.spawn([&] {
                q.join();
                joined = true;
            });
            settle();
            CHECK(q.pop());
            CHECK(q.pop());
            q.task_done();
            settle();
            CHECK(!joined);
            CHECK(q.statistics().unfinished == 1);
            CHECK(q.statistics().joiners == 1);
            q.task_done();
        });
        CHECK(joined);
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("range-for pops until the queue is closed and drained", "[queue]", queue<int>,
                   priority_queue<int>, stack_queue<int>) {
    int sum = 0;
    const auto left = run_virtually([&] {
        TestType q{2};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                for (int& item : q)
                    sum += item;
            });
            for (int i = 1; i <= 10; ++i)
                CHECK(q.push(std::move(i)));
            q.close();
        });
    });
    CHECK(sum == 55);
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("items that can only be moved go through a queue", "[queue]",
                   queue<std::unique_ptr<int>>, (priority_queue<std::unique_ptr<int>, by_target>),
                   stack_queue<std::unique_ptr<int>>) {
    const auto left = run_virtually([] {
        TestType q{1};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                for (int i = 0; i < 3; ++i)
                    CHECK(q.push(std::make_unique<int>(i)));
            });
            for (int i = 0; i < 3; ++i)
                CHECK(**q.pop() == i);
        });
        CHECK(q.push(std::make_unique<int>(1))); // it does not leak when the queue is destroyed
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("an argument that was not pushed was not moved from", "[queue]",
                   queue<std::unique_ptr<int>>, (priority_queue<std::unique_ptr<int>, by_target>),
                   stack_queue<std::unique_ptr<int>>) {
    const auto left = run_virtually([] {
        TestType q{1};
        auto item = std::make_unique<int>(1);
        CHECK(q.push(std::make_unique<int>(0)));
        CHECK(!q.try_push(std::move(item)));
        CHECK(item);
        CHECK(!creel::move_on_after(1s, [&] { return q.push(std::move(item)); }));
        CHECK(item);
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                CHECK(!q.push(std::move(item)));
                CHECK(item);
            });
            settle();
            q.close();
        });
        CHECK(!q.push(std::move(item)));
        CHECK(!q.try_push(std::move(item)));
        CHECK(item);
    });
    CHECK(left == nothing);
}

TEST_CASE("a queue gives items in the order they came", "[queue]") {
    run_virtually([] {
        queue<int> q{3};
        for (int round = 0; round < 5; ++round) { // also around the end of its room
            CHECK(q.push(1));
            CHECK(q.push(2));
            CHECK(*q.pop() == 1);
            CHECK(*q.pop() == 2);
        }
    });
}

TEST_CASE("a stack_queue gives the youngest item first", "[queue]") {
    run_virtually([] {
        stack_queue<int> q{3};
        for (int i : {1, 2, 3})
            CHECK(q.push(i));
        for (int i : {3, 2, 1})
            CHECK(*q.pop() == i);
    });
}

TEST_CASE("a priority_queue gives the least item first and equal ones in their order", "[queue]") {
    struct job {
        int due;
        int number;
        bool operator<(const job& other) const { return due < other.due; }
    };
    run_virtually([] {
        priority_queue<job> q{100};
        unsigned random = 1;
        for (int number = 0; number < 100; ++number) {
            random = random * 1664525 + 1013904223;
            CHECK(q.push(job{static_cast<int>(random >> 28), number}));
        }
        job last{-1, -1};
        for (int i = 0; i < 100; ++i) {
            const job next = q.pop().value();
            CHECK((last.due < next.due || (last.due == next.due && last.number < next.number)));
            last = next;
        }
    });
}

TEST_CASE("statistics tell what a queue has done", "[queue]") {
    run_virtually([] {
        queue<int> q{4};
        for (int i = 0; i < 3; ++i)
            CHECK(q.push(1));
        CHECK(q.pop());
        q.task_done();
        auto s = q.statistics();
        CHECK(s.capacity == 4);
        CHECK(s.size == 2);
        CHECK(s.pushed == 3);
        CHECK(s.unfinished == 2);
        CHECK(!s.closed);
        CHECK(q.close(discard) == 2);
        s = q.statistics();
        CHECK(s.dropped == 2);
        CHECK(s.unfinished == 0);
        CHECK(s.closed);
    });
}

TEST_CASE("the dump names the queue a fiber waits at", "[queue]") {
    run_virtually([] {
        queue<int> q{1};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { static_cast<void>(q.pop()); });
            settle();
            CHECK_THAT(creel::list_fibers(), Catch::Contains("queue made at"));
            q.close();
        });
    });
}

TEMPLATE_TEST_CASE("bug: a value that pop_some() assigns over may touch the queue as it ends",
                   "[queue]", queue<std::shared_ptr<int>>, stack_queue<std::shared_ptr<int>>) {
    const auto left = run_virtually([] {
        TestType q{32};
        int ended = 0;
        const auto item = [&] {
            return std::shared_ptr<int>(&ended, [&q](int* count) {
                CHECK(q.size() <= q.capacity()); // takes the lock
                q.task_done();
                ++*count;
            });
        };
        std::vector<std::shared_ptr<int>> some(20);
        for (int i = 0; i < 20; ++i)
            CHECK(q.push(item()));
        CHECK(q.pop_some(some) == 20);
        for (int i = 0; i < 19; ++i)
            CHECK(q.push(item()));
        CHECK(q.pop_some(some) == 19);
        CHECK(ended == 19);
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { CHECK(q.pop_some(some) == 1); });
            settle();
            CHECK(q.push(item()));
        });
        CHECK(ended == 20);
        some.clear();
        CHECK(ended == 40);
        q.join();
    });
    CHECK(left == nothing);
}
