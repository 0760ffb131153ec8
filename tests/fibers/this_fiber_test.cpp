#include <creel/fibers/this_fiber.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/outcome.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/nursery.hpp>

#include <boost/fiber/fiber.hpp>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("yield lets the others run in turn") {
    std::string order;
    const auto left = run_virtually([&] {
        creel::with_nursery([&](creel::nursery& n) {
            for (char c : {'a', 'b', 'c'})
                n.spawn([&order, c] {
                    for (int i = 0; i < 3; ++i) {
                        order += c;
                        creel::this_fiber::yield();
                    }
                });
        });
    });
    CHECK(order == "abcabcabc");
    CHECK(left == nothing);
}

TEST_CASE("a checkpoint switches only when the budget is used up") {
    run_virtually([] {
        bool other_ran = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { other_ran = true; });
            creel::this_fiber::checkpoint();
            CHECK(!other_ran);
            for (int i = 0; i < 1000; ++i)
                creel::this_fiber::checkpoint();
            CHECK(other_ran);
        });
    });
}

TEST_CASE("sleepers wake in the order of their deadlines, none early") {
    std::string order;
    const auto left = run_virtually([&](manual_poller& outside) {
        const auto begin = outside.now();
        std::vector<creel::duration> slept;
        creel::with_nursery([&](creel::nursery& n) {
            for (int seconds : {3, 1, 2})
                n.spawn([&, seconds] {
                    creel::this_fiber::sleep_for(std::chrono::seconds{seconds});
                    order += static_cast<char>('0' + seconds);
                    slept.push_back(creel::now() - begin);
                });
        });
        CHECK(slept == std::vector<creel::duration>{1s, 2s, 3s});
    });
    CHECK(order == "123");
    CHECK(left == nothing);
}

TEST_CASE("a fiber knows its name and number, also while others run") {
    run_virtually([] {
        CHECK(creel::this_fiber::name() == "main");
        std::vector<std::uint64_t> ids{creel::this_fiber::id()};
        creel::with_nursery([&](creel::nursery& n) {
            for (const char* name : {"a", "a name too long for any small string buffer"})
                n.spawn({.name = name}, [&, name] {
                    const auto id = creel::this_fiber::id();
                    ids.push_back(id);
                    creel::this_fiber::yield();
                    CHECK(creel::this_fiber::name() == name);
                    CHECK(creel::this_fiber::id() == id);
                });
        });
        CHECK(ids.size() == 3);
        CHECK(ids[0] != ids[1]);
        CHECK(ids[1] != ids[2]);
    });
}

TEST_CASE("ids are unique over threads, and main and Boost fibers have one") {
    std::vector<std::uint64_t> ids;
    auto collect = [&] {
        run_virtually([&] {
            ids.push_back(creel::this_fiber::id());
            boost::fibers::fiber{[&] { ids.push_back(creel::this_fiber::id()); }}.join();
        });
    };
    run_virtually([&] {
        ids.push_back(creel::this_fiber::id());
        std::thread{collect}.join();
    });
    REQUIRE(ids.size() == 3);
    CHECK(ids[0] != ids[1]);
    CHECK(ids[1] != ids[2]);
    CHECK(ids[0] != ids[2]);
}

TEST_CASE("numbers are unique over threads and many fibers, and small enough to be read") {
    constexpr std::size_t fibers = 6'000; // more than a thread takes numbers for at once
    std::array<std::vector<std::uint64_t>, 2> ids;
    const auto collect = [](std::vector<std::uint64_t>& mine) {
        run_virtually([&] {
            creel::with_nursery([&](creel::nursery& n) {
                for (std::size_t i = 0; i < fibers; ++i)
                    n.spawn([&] { mine.push_back(creel::this_fiber::id()); });
            });
        });
    };
    std::thread other{[&] { collect(ids[1]); }};
    collect(ids[0]);
    other.join();
    std::set<std::uint64_t> all{ids[0].begin(), ids[0].end()};
    all.insert(ids[1].begin(), ids[1].end());
    CHECK(all.size() == 2 * fibers);
    CHECK(*all.begin() > 0);
    CHECK(*all.rbegin() - *all.begin() < 100'000); // other tests may have taken some before
}

TEST_CASE(
    "what has no name says so: a child, a Boost fiber, and a plain thread, which has no number") {
    CHECK(creel::this_fiber::name().empty());
    CHECK(creel::this_fiber::id() == 0);
    run_virtually([] {
        bool child = false;
        bool native = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { child = creel::this_fiber::name().empty(); });
        });
        boost::fibers::fiber{[&] { native = creel::this_fiber::name().empty(); }}.join();
        CHECK(child);
        CHECK(native);
    });
}

TEST_CASE("each call that may wait throws in a cancelled scope, before anybody else runs") {
    run_virtually([](manual_poller& outside) {
        const auto next_hour = outside.now() + 1h;
        bool other_ran = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { other_ran = true; });
            creel::cancel_scope scope;
            scope.run([&] {
                scope.cancel("enough");
                CHECK(outcome_of([] { creel::this_fiber::yield(); }) == "cancelled: enough");
                CHECK(outcome_of([] { creel::this_fiber::checkpoint(); }) == "cancelled: enough");
                CHECK(outcome_of([] { creel::this_fiber::sleep_for(1h); }) == "cancelled: enough");
                CHECK(outcome_of([] { creel::this_fiber::sleep_for(0s); }) == "cancelled: enough");
                CHECK(outcome_of([&] { creel::this_fiber::sleep_until(next_hour); }) ==
                      "cancelled: enough");
            });
            CHECK(!other_ran);
        });
        CHECK(creel::now() < next_hour);
    });
}

TEST_CASE("yield and checkpoint throw when they were cancelled while the others ran") {
    run_virtually([] {
        for (const auto wait : {&creel::this_fiber::yield, &creel::this_fiber::checkpoint}) {
            creel::cancel_scope scope;
            creel::with_nursery([&](creel::nursery& n) {
                std::string outcome;
                scope.run([&] {
                    bool others_turn = false;
                    n.spawn([&] {
                        others_turn = true;
                        scope.cancel("enough");
                    });
                    outcome = outcome_of([&] {
                        while (!others_turn)
                            wait();
                    });
                });
                CHECK(outcome == "cancelled: enough");
            });
        }
    });
}

TEST_CASE("a sleep of no time, or until a time that has passed, only yields") {
    run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        const int waits = outside.waits();
        int others = 0;
        creel::with_nursery([&](creel::nursery& n) {
            const auto lets_others_run = [&](test_body<> sleep) {
                n.spawn([&] { ++others; });
                const int before = others;
                sleep();
                return others == before + 1;
            };
            CHECK(lets_others_run([] { creel::this_fiber::sleep_for(0s); }));
            CHECK(lets_others_run([] { creel::this_fiber::sleep_for(-1h); }));
            CHECK(lets_others_run([] { creel::this_fiber::sleep_for(creel::duration::min()); }));
            CHECK(lets_others_run([&] { creel::this_fiber::sleep_until(begin); }));
            CHECK(lets_others_run([] { creel::this_fiber::sleep_until(creel::time_point{}); }));
        });
        CHECK(outside.now() == begin);
        CHECK(outside.waits() == waits);
    });
}

TEST_CASE("a sleep without end ends with its scope") {
    const auto left = run_virtually([](manual_poller& outside) {
        const auto begin = outside.now();
        CHECK(!creel::move_on_after(1s,
                                    [] { creel::this_fiber::sleep_for(creel::duration::max()); }));
        CHECK(!creel::move_on_after(
            1s, [] { creel::this_fiber::sleep_until(creel::time_point::max()); }));
        CHECK(outside.now() - begin == 2s);
    });
    CHECK(left == nothing);
}

TEST_CASE("now is the time of the scheduler's poller, on a plain thread that of the steady clock") {
    run_virtually([](manual_poller& outside) {
        CHECK(creel::now() == outside.now());
        outside.advance(1h); // read afresh
        CHECK(creel::now() == outside.now());
    });
    const auto before = creel::clock::now();
    const auto now = creel::now();
    CHECK(before <= now);
    CHECK(now <= creel::clock::now());
}

TEST_CASE("a plain thread yields and sleeps like a fiber, and none of its sleeps ends early") {
    creel::this_fiber::yield();
    creel::this_fiber::checkpoint();
    const auto begin = creel::now();
    creel::this_fiber::sleep_for(1ms);
    CHECK(creel::now() >= begin + 1ms);
    const auto later = creel::now() + 1ms;
    creel::this_fiber::sleep_until(later);
    CHECK(creel::now() >= later);
}

namespace {

// The number of turns of a loop under a limit of 20 ms. Each turn computes for this long and then
// calls `rest`, the only call that polls.
int turns_within_20ms(manual_poller& outside, creel::duration slice, void (*rest)()) {
    int turns = 0;
    CHECK(!creel::move_on_after(20ms, [&] {
        for (; turns < 10'000; ++turns) {
            outside.advance(slice);
            rest();
        }
    }));
    return turns;
}

} // namespace

TEST_CASE("a checkpoint and a yield see a deadline by time, however long the slices are") {
    run_virtually([](manual_poller& outside) {
        for (const auto rest : {&creel::this_fiber::checkpoint, &creel::this_fiber::yield}) {
            CHECK(turns_within_20ms(outside, 10ms, rest) <= 2);
            CHECK(turns_within_20ms(outside, 1ms, rest) <= 30); // 10 ms late at most
            CHECK(turns_within_20ms(outside, 100us, rest) <= 300);
        }
    });
}

TEST_CASE("a checkpoint lets another thread's cancel and a sleeper in by time") {
    run_virtually([](manual_poller& outside) {
        int ticks = 0;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                for (;;) {
                    creel::this_fiber::sleep_for(1ms);
                    ++ticks;
                }
            });
            creel::this_fiber::yield();
            outside.after(50ms, [&n] { n.cancel(); }); // as a poller delivers it
            int turns = 0;
            CHECK_THROWS_AS(
                [&] {
                    for (; turns < 1000; ++turns) {
                        outside.advance(5ms);
                        creel::this_fiber::checkpoint();
                    }
                }(),
                creel::cancelled);
            CHECK(turns <= 12);
            CHECK(ticks >= 5);
        });
    });
}

TEST_CASE("fibers that yield to each other after long slices see a deadline in time, too") {
    run_virtually([](manual_poller& outside) {
        bool stop = false;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                while (!stop) {
                    outside.advance(10ms);
                    creel::this_fiber::yield();
                }
            });
            for (int i = 0; i < 200; ++i) // long enough for the scheduler to learn of it
                creel::this_fiber::yield();
            int turns = 0;
            CHECK(!creel::move_on_after(20ms, [&] {
                for (; turns < 1000; ++turns)
                    creel::this_fiber::yield();
            }));
            CHECK(turns <= 4);
            stop = true;
        });
    });
}
