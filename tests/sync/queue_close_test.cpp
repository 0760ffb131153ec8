// The close matrix: three ways to close x who is blocked at the queue then.
#include <creel/sync/priority_queue.hpp>
#include <creel/sync/queue.hpp>
#include <creel/sync/stack_queue.hpp>

#include "support/fixture.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <catch2/catch.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::priority_queue;
using creel::sync::queue;
using creel::sync::stack_queue;

namespace {

enum class closing { drain, now, drain_then_now };

// Closes, and tells how many items that dropped.
template <typename Queue>
std::size_t close(Queue& q, closing how) {
    if (how != closing::now)
        q.close();
    return how != closing::drain ? q.close(creel::sync::now) : 0;
}

void settle() {
    for (int i = 0; i < 5; ++i)
        creel::this_fiber::yield();
}

// What is left after a close: everything with drain, else nothing.
template <typename Queue>
void check_rest(Queue& q, closing how, std::size_t items) {
    CHECK(q.closed());
    CHECK(!q.try_push(1));
    CHECK(!q.push(1));
    CHECK(q.size() == (how == closing::drain ? items : 0));
    while (q.pop())
        q.task_done();
    CHECK(!q.try_pop());
    CHECK(q.close(creel::sync::now) == 0); // again, and again with nothing in it
    q.close();
    CHECK(q.statistics().unfinished == 0);
    q.join();
}

template <typename Queue>
void wait_for_blocked(const Queue& q, std::size_t pushers, std::size_t poppers,
                      std::size_t joiners) {
    const auto patience = std::chrono::steady_clock::now() + 60s; // then the counts are wrong
    while (std::chrono::steady_clock::now() < patience) {
        const auto s = q.statistics();
        if (s.pushers == pushers && s.poppers == poppers && s.joiners == joiners)
            return;
        if (creel::on_scheduler())
            creel::this_fiber::yield();
        else
            std::this_thread::yield();
    }
}

} // namespace

#define EVERY_QUEUE queue<int>, priority_queue<int>, stack_queue<int>

TEMPLATE_TEST_CASE("closing a queue gives blocked pushers false", "[queue][close]", EVERY_QUEUE) {
    const auto how = GENERATE(closing::drain, closing::now, closing::drain_then_now);
    int refused = 0;
    const auto left = run_virtually([&] {
        TestType q{2};
        creel::with_nursery([&](creel::nursery& n) {
            CHECK(q.push(1));
            CHECK(q.push(1));
            for (int i = 0; i < 3; ++i)
                n.spawn([&] { refused += !q.push(1); });
            settle();
            CHECK(close(q, how) == (how == closing::drain ? 0U : 2U));
        });
        CHECK(refused == 3);
        check_rest(q, how, 2);
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("closing a queue gives blocked poppers nothing", "[queue][close]", EVERY_QUEUE) {
    const auto how = GENERATE(closing::drain, closing::now, closing::drain_then_now);
    int ended = 0;
    const auto left = run_virtually([&] {
        TestType q{2};
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&] { ended += !q.pop(); });
            n.spawn([&] {
                std::vector<int> some(3);
                ended += q.pop_some(some) == 0;
            });
            settle();
            CHECK(close(q, how) == 0);
        });
        CHECK(ended == 4);
        check_rest(q, how, 0);
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("join of a closed queue waits for what is left to do", "[queue][close]",
                   EVERY_QUEUE) {
    const auto how = GENERATE(closing::drain, closing::now, closing::drain_then_now);
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
            CHECK(close(q, how) == (how == closing::drain ? 0U : 2U));
            settle();
            CHECK(!joined);
            q.task_done();
            settle();
            CHECK(joined == (how != closing::drain)); // what was dropped counts as done
            check_rest(q, how, 2);
        });
        CHECK(joined);
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("closing a queue wakes also those behind a cancelled waiter", "[queue][close]",
                   EVERY_QUEUE) {
    const auto how = GENERATE(closing::drain, closing::now, closing::drain_then_now);
    const bool cancel_first = GENERATE(true, false); // before the close, or just after it
    int ended = 0;
    const auto left = run_virtually([&] {
        TestType pushed{1};
        TestType popped{1};
        TestType joined{1};
        CHECK(pushed.push(1));
        CHECK(joined.push(1));
        CHECK(joined.pop());
        creel::with_nursery([&](creel::nursery& n) {
            creel::cancel_scope scope;
            n.spawn([&] {
                static_cast<void>(scope.run([&] {
                    creel::with_nursery([&](creel::nursery& doomed) {
                        doomed.spawn([&] { static_cast<void>(pushed.push(1)); });
                        doomed.spawn([&] { static_cast<void>(popped.pop()); });
                        doomed.spawn([&] { joined.join(); });
                    });
                }));
            });
            settle();
            n.spawn([&] { ended += !pushed.push(1); });
            n.spawn([&] { ended += !popped.pop(); });
            n.spawn([&] {
                joined.join();
                ++ended;
            });
            settle();
            if (cancel_first)
                scope.cancel();
            close(pushed, how);
            close(popped, how);
            close(joined, how);
            if (!cancel_first)
                scope.cancel();
            settle();
            CHECK(ended == 2);
            joined.task_done();
        });
        CHECK(ended == 3);
        check_rest(pushed, how, 1);
        check_rest(popped, how, 0);
        check_rest(joined, how, 0);
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("closing a rendezvous tells both sides", "[queue][close]", EVERY_QUEUE) {
    const auto how = GENERATE(closing::drain, closing::now, closing::drain_then_now);
    int refused = 0;
    int ended = 0;
    const auto left = run_virtually([&] {
        TestType pushed{0};
        TestType popped{0};
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 2; ++i) {
                n.spawn([&] { refused += !pushed.push(1); });
                n.spawn([&] { ended += !popped.pop(); });
            }
            settle();
            CHECK(close(pushed, how) == 0);
            CHECK(close(popped, how) == 0);
        });
        CHECK(refused == 2);
        CHECK(ended == 2);
        check_rest(pushed, how, 0);
        check_rest(popped, how, 0);
    });
    CHECK(left == nothing);
}

TEMPLATE_TEST_CASE("closing a queue wakes fibers of other threads and plain threads",
                   "[queue][close]", EVERY_QUEUE) {
    const auto how = GENERATE(closing::drain, closing::now, closing::drain_then_now);
    std::atomic<int> ended{0};
    {
        TestType full{1};
        TestType empty{1};
        TestType busy{1};
        static_cast<void>(full.push(1));
        static_cast<void>(busy.push(1));
        static_cast<void>(busy.pop());
        const std::vector<std::function<void()>> waits{
            [&] { ended += !full.push(1); },
            [&] { ended += !empty.pop(); },
            [&] {
                busy.join();
                ++ended;
            },
        };
        std::vector<std::thread> threads;
        for (const auto& wait : waits)
            threads.emplace_back(wait); // a plain one
        for (int i = 0; i < 2; ++i)
            threads.emplace_back([&] {
                run_virtually(
                    [&] {
                        creel::with_nursery([&](creel::nursery& n) {
                            for (const auto& wait : waits)
                                n.spawn(wait);
                        });
                    },
                    {}, manual_poller::other_threads::yes);
            });
        wait_for_blocked(full, 3, 0, 0);
        wait_for_blocked(empty, 0, 3, 0);
        wait_for_blocked(busy, 0, 0, 3);
        close(full, how);
        close(empty, how);
        close(busy, how);
        busy.task_done();
        for (auto& thread : threads)
            thread.join();
    }
    CHECK(ended == 9);
}

TEMPLATE_TEST_CASE("bug: who is in join while the queue is closed now outlives what is dropped", "",
                   queue<std::shared_ptr<int>>, stack_queue<std::shared_ptr<int>>) {
    int alive = 0;
    int alive_at_return = -1;
    const auto left = run_virtually([&] {
        TestType q{2};
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 2; ++i) {
                ++alive;
                CHECK(q.push(std::shared_ptr<int>(&alive, [](int* count) {
                    settle(); // whoever has been woken by now goes on
                    --*count;
                })));
            }
            n.spawn([&] {
                q.join();
                alive_at_return = alive;
            });
            settle();
            CHECK(q.statistics().joiners == 1);
            CHECK(q.close(creel::sync::now) == 2);
        });
    });
    CHECK(alive_at_return == 0);
    CHECK(left == nothing);
}
