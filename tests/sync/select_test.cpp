#include <creel/sync/select.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/sync/priority_queue.hpp>
#include <creel/sync/queue.hpp>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using namespace creel::sync;

namespace {

constexpr auto ignore_item = [](const auto&) {};

} // namespace

TEST_CASE("select takes what is ready and leaves the rest") {
    const auto left = run_virtually([] {
        queue<int> a{2};
        queue<std::string> b{2};
        CHECK(b.push("text"));
        std::string got;
        const auto which =
            select(on_pop(a, ignore_item),
                   on_pop(b, [&](std::optional<std::string> s) { got = s.value(); }));
        CHECK(which == 1);
        CHECK(got == "text");
        CHECK(b.empty());
        CHECK(a.statistics().poppers == 0);
    });
    CHECK(left == nothing);
}

TEST_CASE("select returns what the handler returns") {
    const auto left = run_virtually([] {
        queue<int> q{1};
        CHECK(q.push(3));
        const auto r = select(on_pop(q, [](std::optional<int> i) { return *i; }),
                              on_timer(1h, [] { return 0.5; }));
        static_assert(std::is_same_v<decltype(r), const double>);
        CHECK(r == 3.0);
    });
    CHECK(left == nothing);
}

TEST_CASE("select waits for the first case that can happen and exactly one does") {
    const auto left = run_virtually([] {
        queue<int> a{1};
        queue<int> b{1};
        event e;
        int happened = 0;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                const auto which =
                    select(on_pop(a, [&](std::optional<int> i) { happened = *i; }),
                           on_pop(b, [&](std::optional<int> i) { happened = 10 * *i; }), on_set(e),
                           on_timer(1h));
                CHECK(which == 1);
            });
            settle();
            CHECK(a.statistics().poppers == 1);
            CHECK(b.push(4)); // it takes this item
            CHECK(a.push(5)); // and not this item
            e.set();
        });
        CHECK(happened == 40);
        CHECK(a.size() == 1);
        CHECK(b.empty());
        CHECK(a.statistics().poppers == 0);
        CHECK(e.statistics().waiting == 0);
    });
    CHECK(left == nothing);
}

TEST_CASE("a timer of select fires when nothing else has happened") {
    const auto left = run_virtually([] {
        queue<int> q{1};
        const auto begin = creel::now();
        CHECK(select(on_pop(q, ignore_item), on_timer(2s), on_timer(1s), on_timer(begin + 3s)) ==
              2);
        CHECK(creel::now() - begin == 1s);
        CHECK(select(on_timer(begin), on_pop(q, ignore_item)) == 0); // the time has passed
        CHECK(select(on_timer(std::chrono::hours::max()), on_timer(1s)) == 1);
        CHECK(q.statistics().poppers == 0);
    });
    CHECK(left == nothing);
}

TEST_CASE("select pushes into the queue that has room") {
    const auto left = run_virtually([] {
        queue<std::unique_ptr<int>> full{1};
        queue<std::unique_ptr<int>> other{1};
        CHECK(full.push(std::make_unique<int>(0)));
        auto a = std::make_unique<int>(1);
        auto b = std::make_unique<int>(2);
        bool pushed = false;
        CHECK(select(on_push(full, a, [&](bool) {}),
                     on_push(other, b, [&](bool p) { pushed = p; })) == 1);
        CHECK(pushed);
        CHECK(a);
        CHECK(!b);
        b = std::make_unique<int>(3);
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                settle();
                CHECK(**full.pop() == 0);
            });
            CHECK(select(on_push(other, b, [&](bool) {}),
                         on_push(full, a, [&](bool p) { pushed = p; })) == 1);
        });
        CHECK(!a);
        CHECK(b);
        CHECK(**full.pop() == 1);
    });
    CHECK(left == nothing);
}

TEST_CASE("select learns that a queue was closed") {
    const auto left = run_virtually([] {
        queue<int> q{0};
        int item = 1;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                CHECK(select(on_pop(q, [](std::optional<int> i) { return i.has_value(); })) ==
                      false);
            });
            settle();
            q.close();
        });
        CHECK(select(on_pop(q, [](std::optional<int> i) { return i.has_value(); })) == false);
        CHECK(select(on_push(q, item, [](bool pushed) { return pushed; })) == false);
        queue<int> full{0};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                CHECK(select(on_push(full, item, [](bool pushed) { return pushed; })) == false);
            });
            settle();
            CHECK(full.close(discard) == 0);
        });
    });
    CHECK(left == nothing);
}

TEST_CASE("two selects meet at a rendezvous") {
    const auto left = run_virtually([] {
        queue<int> a{0};
        queue<int> b{0};
        int got = 0;
        int item = 7;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                select(on_pop(a, [&](std::optional<int> i) { got = *i; }),
                       on_pop(b, [&](std::optional<int> i) { got = *i; }));
            });
            settle();
            select(on_push(a, item, [](bool p) { CHECK(p); }),
                   on_push(b, item, [](bool p) { CHECK(p); }));
        });
        CHECK(got == 7);
        for (auto* q : {&a, &b}) {
            CHECK(q->statistics().pushers == 0);
            CHECK(q->statistics().poppers == 0);
        }
    });
    CHECK(left == nothing);
}

TEST_CASE("a select that pushes to and pops from one rendezvous does not meet itself") {
    const auto left = run_virtually([] {
        queue<int> q{0};
        int mine = 1;
        std::vector<std::string> log;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                select(on_push(q, mine, [&](bool) { log.emplace_back("pushed"); }),
                       on_pop(q, [&](std::optional<int>) { log.emplace_back("popped"); }));
            });
            settle();
            CHECK(log.empty());
            CHECK(q.statistics().pushers == 1);
            CHECK(q.statistics().poppers == 1);
            CHECK(q.push(5));
        });
        CHECK(log == std::vector<std::string>{"popped"});
    });
    CHECK(left == nothing);
}

TEST_CASE("ordered select prefers the first case and fair select none") {
    run_virtually([] {
        std::array<queue<int>, 3> all{queue<int>{1}, queue<int>{1}, queue<int>{1}};
        for (auto& q : all)
            CHECK(q.push(1));
        std::array<int, 3> taken{};
        const auto take = [&](select_order order) {
            const auto which = select(order, on_pop(all[0], ignore_item),
                                      on_pop(all[1], ignore_item), on_pop(all[2], ignore_item));
            ++taken[which];
            CHECK(all[which].push(1));
        };
        for (int i = 0; i < 100; ++i)
            take(ordered);
        CHECK(taken[0] == 100);
        taken = {};
        for (int i = 0; i < 3000; ++i)
            take(fair);
        for (const int count : taken) { // 1000 each, with a standard deviation of 26
            CHECK(count > 800);
            CHECK(count < 1200);
        }
    });
}

TEST_CASE("an automatic event that select did not choose stays set") {
    const auto left = run_virtually([] {
        queue<int> q{1};
        event e{event::automatic};
        CHECK(q.push(1));
        e.set();
        CHECK(select(ordered, on_pop(q, ignore_item), on_set(e)) == 0);
        CHECK(e.is_set());
        CHECK(select(on_pop(q, ignore_item), on_set(e)) == 1);
        CHECK(!e.is_set());
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { CHECK(select(on_pop(q, ignore_item), on_set(e)) == 0); });
            settle();
            CHECK(q.push(1)); // the select has happened
            e.set();          // and this set() is for the next to come
        });
        CHECK(e.is_set());
    });
    CHECK(left == nothing);
}

TEST_CASE("select waits for futures and for children") {
    const auto left = run_virtually([] {
        queue<int> q{1};
        promise<int> p;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                creel::this_fiber::sleep_for(1s);
                p.set_value(9);
            });
            CHECK(select(on_pop(q, [](std::optional<int> i) { return *i; }),
                         on_ready(p.get_future(), [](const int& i) { return i; })) == 9);
            CHECK(select(on_ready(p.get_future(), [](const int& i) { return i; })) == 9);

            auto slow = n.async([] {
                creel::this_fiber::sleep_for(2s);
                return 1;
            });
            auto quick = n.async([] {
                creel::this_fiber::sleep_for(1s);
                return 2;
            });
            CHECK(select(on_task(slow), on_task(quick)) == 1);
            CHECK(quick.ready());
            CHECK(quick.get() == 2);
            CHECK(select(on_task(slow), on_timer(10ms)) == 1);
            CHECK(slow.get() == 1); // the select does not refer to it any more
            auto done = n.async([] { return 3; });
            settle();
            CHECK(select(on_task(done, [&] { return done.get(); })) == 3);
        });
    });
    CHECK(left == nothing);
}

TEST_CASE("an exception of a future is thrown by select") {
    run_virtually([] {
        promise<void> p;
        p.set_exception(std::make_exception_ptr(std::out_of_range("no")));
        CHECK_THROWS_AS(select(on_ready(p.get_future(), [] {})), std::out_of_range);
    });
}

TEST_CASE("a cancelled select has done nothing") {
    const auto left = run_virtually([] {
        queue<std::unique_ptr<int>> q{0};
        event e;
        auto item = std::make_unique<int>(1);
        CHECK(!creel::move_on_after(1s, [&] {
            select(on_push(q, item, [](bool) {}), on_set(e),
                   on_pop(q, [](std::optional<std::unique_ptr<int>>) {}));
        }));
        CHECK(item);
        CHECK(q.statistics().pushers == 0);
        CHECK(q.statistics().poppers == 0);
        CHECK(e.statistics().waiting == 0);
    });
    CHECK(left == nothing);
}

TEST_CASE("an item handed to a select that is then cancelled is not lost") {
    int got = 0;
    const auto left = run_virtually([&] {
        queue<int> a{1};
        queue<int> b{1};
        creel::cancel_scope scope;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                static_cast<void>(scope.run([&] {
                    select(on_pop(a, [&](std::optional<int> i) { got = *i; }),
                           on_pop(b, [&](std::optional<int> i) { got = *i; }));
                }));
            });
            settle();
            CHECK(b.push(6));
            scope.cancel(); // too late
        });
        CHECK(a.statistics().poppers == 0);
    });
    CHECK(got == 6);
    CHECK(left == nothing);
}

TEST_CASE("those behind a select that has happened elsewhere are served") {
    std::vector<int> got;
    const auto left = run_virtually([&] {
        queue<int> a{1};
        queue<int> b{1};
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { select(on_pop(a, ignore_item), on_pop(b, ignore_item)); });
            settle();
            n.spawn([&] { got.push_back(a.pop().value()); });
            settle();
            CHECK(b.push(1)); // the select has this item
            CHECK(a.push(2)); // this push skips the select
        });
    });
    CHECK(got == std::vector{2});
    CHECK(left == nothing);
}

TEST_CASE("select works on plain threads") {
    queue<int> q{1};
    queue<int> never{1};
    std::thread other{[&] { static_cast<void>(q.push(2)); }};
    CHECK(select(on_pop(never, [](std::optional<int>) { return 0; }),
                 on_pop(q, [](std::optional<int> i) { return *i; })) == 2);
    other.join();
    CHECK(select(on_pop(q, ignore_item), on_timer(1ms)) == 1);
    CHECK(never.statistics().poppers == 0);
}

TEST_CASE("a shielded select learns that a child of a cancelled nursery has ended once it has") {
    bool ready = false;
    const auto left = run_virtually(
        [&] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] {
                    creel::with_nursery([&](creel::nursery& m) {
                        auto t = m.async([] { return 1; });
                        m.cancel();
                        creel::shield([&] {
                            select(on_task(t));
                            ready = t.ready();
                            CHECK_THROWS_AS(t.get(), creel::task_cancelled);
                        });
                    });
                });
            });
        },
        {.max_fibers = 1});
    CHECK(ready);
    CHECK(left == nothing);
}

TEST_CASE("a case that is used again does not bring its last item again") {
    const auto left = run_virtually([] {
        queue<std::unique_ptr<int>> q{2};
        std::vector<int> got;
        auto next = on_pop(q, [&](std::optional<std::unique_ptr<int>> item) {
            got.push_back(item ? **item : -1);
        });
        CHECK(q.push(std::make_unique<int>(1)));
        CHECK(q.push(std::make_unique<int>(2)));
        select(next);
        select(next);
        q.close();
        select(next);
        CHECK(got == std::vector{1, 2, -1});
    });
    CHECK(left == nothing);
}

TEST_CASE("the dump names what a select waits for") {
    run_virtually([] {
        queue<int> q{1};
        event e;
        creel::with_nursery([&](creel::nursery& n) {
            auto t = n.async([&] { static_cast<void>(q.pop()); });
            n.spawn([&] { select(on_set(e), on_task(t), on_timer(1h)); });
            settle();
            CHECK_THAT(creel::list_fibers(), Catch::Contains("the first of event made at"));
            CHECK_THAT(creel::list_fibers(), Catch::Contains(", the result of "));
            CHECK_THAT(creel::list_fibers(), Catch::Contains(", a timer"));
            e.set();
            q.close();
            settle();
        });
    });
}

// Selects on both sides of rendezvous and buffers, on several threads: the case that livelocks or
// loses wake-ups when claims are wrong.
TEST_CASE("stress: what selects of many threads push and pop is neither lost nor doubled",
          "[stress]") {
    const std::size_t capacity = GENERATE(0U, 1U, 4U);
    CAPTURE(capacity);
    queue<int> a{capacity};
    priority_queue<int> b{capacity};
    std::atomic<std::uint64_t> in{0};
    std::atomic<std::uint64_t> out{0};
    const crowd_options who{.fibers_each = 6, .virtual_time = true, .time = 600ms};
    std::atomic<unsigned> producers{members_of(who) / 2};
    const auto produce = [&](crowd_member& me) {
        for (int i = 0; me.goes_on(i, 6'000); ++i) {
            int item = static_cast<int>(me.random() % 100);
            const auto count = [&](bool pushed) {
                in += pushed ? 1000U + static_cast<unsigned>(item) : 0U;
            };
            creel::move_on_after(std::chrono::microseconds{me.random() % 50},
                                 [&] { select(on_push(a, item, count), on_push(b, item, count)); });
            if (me.random() % 4 == 0 && a.push(item))
                count(true);
        }
        if (--producers == 0) {
            a.close();
            b.close();
        }
    };
    const auto consume = [&](crowd_member& me) {
        bool a_open = true;
        bool b_open = true;
        while (a_open || b_open) {
            const auto take = [&](bool& open) {
                return [&](std::optional<int> item) {
                    open = open && item.has_value();
                    if (item)
                        out += 1000U + static_cast<unsigned>(*item);
                };
            };
            if (!a_open)
                take(b_open)(b.pop());
            else if (!b_open)
                take(a_open)(a.pop());
            else if (me.random() % 2 == 0)
                select(on_pop(a, take(a_open)), on_pop(b, take(b_open)));
            else
                select(on_pop(b, take(b_open)),
                       on_timer(std::chrono::microseconds{me.random() % 50}),
                       on_pop(a, take(a_open)));
        }
    };
    run_crowd("select stress", who, [&](crowd_member& me) {
        if (me.number % 2 == 0)
            produce(me);
        else
            consume(me);
    });
    CHECK(in > 0);
    CHECK(in == out);
    CHECK(a.statistics().poppers + a.statistics().pushers == 0);
    CHECK(b.statistics().poppers + b.statistics().pushers == 0);
}
