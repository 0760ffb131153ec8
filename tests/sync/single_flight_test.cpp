#include <creel/sync/single_flight.hpp>

#include "support/check.hpp"
#include "support/crowd.hpp"
#include "support/fixture.hpp"
#include "support/malloc_count.hpp"
#include "support/occupancy.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <deque>
#include <functional>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::single_flight;
using creel::sync::detail::flight;
using creel::sync::detail::flight_core;

TEST_CASE("concurrent callers of a single_flight share one computation") {
    int computed = 0;
    int got = 0;
    const auto left = run_virtually([&] {
        single_flight<std::string, int> flights;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 5; ++i)
                n.spawn([&] {
                    got += flights.run("key", [&] {
                        ++computed;
                        creel::this_fiber::sleep_for(1s);
                        return 7;
                    });
                });
            n.spawn([&] { got += flights.run("other", [] { return 100; }); });
            creel::this_fiber::yield();
            CHECK(flights.in_flight() == 1);
            CHECK(flights.statistics().waiting == 4);
            CHECK_THAT(creel::list_fibers(), Catch::Contains("single_flight made at"));
        });
        CHECK(flights.in_flight() == 0);
        CHECK(flights.statistics().waiting == 0);
        CHECK(flights.run("key", [] { return 8; }) == 8); // no value is kept
    });
    CHECK(computed == 1);
    CHECK(got == 135);
    CHECK(left == nothing);
}

TEST_CASE("an error of the leader goes to all callers that waited for it") {
    int failed = 0;
    const auto left = run_virtually([&] {
        single_flight<int, int> flights;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&] {
                    try {
                        flights.run(1, []() -> int {
                            creel::this_fiber::yield();
                            throw std::out_of_range("no");
                        });
                    } catch (const std::out_of_range&) {
                        ++failed;
                    }
                });
        });
    });
    CHECK(failed == 3);
    CHECK(left == nothing);
}

TEST_CASE("a cancelled leader hands over to the caller that has waited longest") {
    std::string computed;
    std::string got;
    const auto left = run_virtually([&] {
        single_flight<int, char> flights;
        creel::cancel_scope first;
        creel::cancel_scope second;
        const auto ask = [&](char who) {
            return flights.run(1, [&] {
                computed += who;
                creel::this_fiber::sleep_for(1s);
                return who;
            });
        };
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] { CHECK(!first.run([&] { got += ask('a'); })); });
            n.spawn([&] { CHECK(!second.run([&] { got += ask('b'); })); });
            n.spawn([&] { got += ask('c'); });
            n.spawn([&] { got += ask('d'); });
            creel::this_fiber::yield();
            first.cancel();
            creel::this_fiber::sleep_for(100ms);
            CHECK(computed == "ab");
            second.cancel();
            creel::this_fiber::sleep_for(100ms);
            n.spawn([&] { got += ask('e'); });
        });
    });
    CHECK(computed == "abc");
    CHECK(got == "ccc");
    CHECK(left == nothing);
}

TEST_CASE("a follower that is cancelled leaves alone") {
    const auto left = run_virtually([] {
        single_flight<int, int> flights;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                CHECK(flights.run(1, [] {
                    creel::this_fiber::sleep_for(5s);
                    return 1;
                }) == 1);
            });
            creel::this_fiber::yield();
            CHECK(!creel::move_on_after(1s, [&] { return flights.run(1, [] { return 2; }); }));
            CHECK(flights.statistics().waiting == 0);
        });
    });
    CHECK(left == nothing);
}

TEST_CASE("a leader and its heir cancelled at once hand over to the third") {
    int got = 0;
    const auto left = run_virtually([&] {
        single_flight<int, int> flights;
        creel::cancel_scope both;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn([&] {
                static_cast<void>(both.run([&] {
                    creel::with_nursery([&](creel::nursery& doomed) {
                        for (int i = 0; i < 2; ++i)
                            doomed.spawn([&] {
                                flights.run(1, [] {
                                    creel::this_fiber::sleep_for(1s);
                                    return 1;
                                });
                            });
                    });
                }));
            });
            for (int i = 0; i < 3; ++i)
                creel::this_fiber::yield();
            n.spawn([&] { got = flights.run(1, [] { return 2; }); });
            creel::this_fiber::yield();
            both.cancel();
        });
    });
    CHECK(got == 2);
    CHECK(left == nothing);
}

namespace {

// Callers of different keys, all of them leaders.
struct many_flights {
    explicit many_flights(std::size_t count) : keys(count), flights(count) {}
    ~many_flights() { land(); }

    void join_all() {
        for (std::size_t i = 0; i < flights.size(); ++i)
            join(i);
    }
    void join(std::size_t i) {
        keys[i] = i * 4'096; // like addresses of pages
        auto& f = flights[i].emplace(
            core, &keys[i], std::hash<std::size_t>{}(keys[i]), [](const void* a, const void* b) {
                return *static_cast<const std::size_t*>(a) == *static_cast<const std::size_t*>(b);
            });
        led += core.join(f) ? 1 : 0;
    }
    void land() {
        for (auto& f : flights) {
            if (f)
                core.land(*f);
            f.reset();
        }
    }
    [[nodiscard]] std::size_t longest_chain() const {
        std::size_t longest = 0;
        for (const auto& first : flights) {
            std::size_t length = 0;
            for (const flight* f = first ? &*first : nullptr; f != nullptr; f = f->next)
                ++length;
            longest = std::max(longest, length);
        }
        return longest;
    }

    flight_core core{std::source_location::current()};
    std::vector<std::size_t> keys;
    std::vector<std::optional<flight>> flights;
    std::size_t led = 0;
};

} // namespace

TEST_CASE("however many keys are in flight a single_flight compares few of them") {
    many_flights many{10'000};
    for (int round = 0; round < 2; ++round) {
        many.join_all();
        CHECK(many.core.in_flight() == 10'000);
        CHECK(many.longest_chain() < 16); // 156 in 64 chains, however well they are mixed
        many.land();
        CHECK(many.core.in_flight() == 0);
    }
    CHECK(many.led == 20'000);
}

TEST_CASE("without memory for its chains a single_flight loses nothing and later catches up") {
    many_flights many{5'000};
    {
        const no_memory any;
        for (std::size_t i = 0; i < 2'500; ++i)
            many.join(i);
    }
    for (std::size_t i = 2'500; i < 5'000; ++i)
        many.join(i);
    CHECK(many.led == 5'000);
    CHECK(many.core.in_flight() == 5'000);
    CHECK(many.longest_chain() < 16);
    many.land();
    CHECK(many.core.in_flight() == 0);
}

TEST_CASE("the memory for many keys goes when none is in flight and few keys need none") {
    if (!counts_malloc)
        return;
    constexpr std::size_t few = 63;
    many_flights many{2 * few};
    const auto calls_of = [&](auto&& f) {
        const auto before = malloc_calls();
        f();
        return malloc_calls() - before;
    };
    const auto join = [&](std::size_t begin, std::size_t end) {
        return [&many, begin, end] {
            for (std::size_t i = begin; i < end; ++i)
                many.join(i);
        };
    };
    for (int round = 0; round < 2; ++round) {
        CHECK(calls_of(join(0, few)) == 0);
        CHECK(calls_of(join(few, 2 * few)) == 1);
        many.land();
    }
}

TEST_CASE("among many keys each leader that is cancelled is followed by its own heir") {
    constexpr int keys = 300;
    int computed = 0;
    int wrong = 0;
    const auto left = run_virtually([&] {
        single_flight<int, int> flights;
        std::deque<creel::cancel_scope> doomed;
        const auto ask = [&](int key) {
            const int got = flights.run(key, [&, key] {
                creel::this_fiber::sleep_for(1s);
                ++computed;
                return key;
            });
            wrong += got != key ? 1 : 0;
        };
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < keys; ++i)
                if (i % 3 == 0)
                    n.spawn([&, i, &scope = doomed.emplace_back()] {
                        CHECK(!scope.run([&] { ask(i); }));
                    });
                else
                    n.spawn([&, i] { ask(i); });
            for (int i = 0; i < 2 * keys; ++i)
                n.spawn([&, i] { ask(i % keys); });
            creel::this_fiber::yield();
            CHECK(flights.in_flight() == keys);
            CHECK(flights.statistics().waiting == 2 * keys);
            for (creel::cancel_scope& scope : doomed)
                scope.cancel();
        });
        CHECK(flights.statistics().in_flight == 0);
        CHECK(flights.statistics().waiting == 0);
    });
    CHECK(computed == keys);
    CHECK(wrong == 0);
    CHECK(left == nothing);
}

TEST_CASE("stress: a follower may be cancelled while the leader on another thread lands",
          "[stress]") {
    single_flight<int, int> flights;
    std::atomic<bool> done{false};
    std::atomic<int> wrong{0};
    const auto lead = [&] {
        while (!done)
            wrong += flights.run(1, [] {
                std::this_thread::yield();
                return 1;
            }) != 1;
    };
    const auto follow = [&](const crowd_member& me) {
        for (int i = 0; me.goes_on(i, 20'000); ++i) {
            const auto got = creel::move_on_after(std::chrono::microseconds{i % 20},
                                                  [&] { return flights.run(1, [] { return 1; }); });
            wrong += got.value_or(1) != 1;
        }
        done = true;
    };
    const crowd_options who{.schedulers = 0, .plain_threads = 2};
    run_crowd("single_flight stress", who, [&](crowd_member& me) {
        if (me.number == 0)
            lead();
        else
            follow(me);
    });
    CHECK(wrong == 0);
    CHECK(flights.statistics().in_flight == 0);
    CHECK(flights.statistics().waiting == 0);
}

TEST_CASE(
    "stress: one caller at a time computes a key of a single_flight although callers are cut short",
    "[stress]") {
    single_flight<int, int> flights;
    std::array<occupancy, 3> computing{occupancy{1}, occupancy{1}, occupancy{1}};
    std::atomic<int> landed{0};
    std::atomic<int> wrong{0};
    const auto ask = [&](int key) {
        const int value = flights.run(key, [&] {
            const occupancy::stay alone{computing[static_cast<std::size_t>(key)]};
            let_others_run(); // may be cut short
            return key;
        });
        wrong += value != key;
        ++landed;
    };
    run_crowd("single_flight stress", {.virtual_time = true}, [&](crowd_member& me) {
        for (int i = 0; me.goes_on(i, 10'000); ++i)
            me.perhaps_cut_short([&] { ask(i % 3); });
    });
    CHECK(wrong == 0);
    CHECK(landed > 0);
    for (const occupancy& each : computing)
        CHECK(each.violations() == 0);
    CHECK(flights.statistics().in_flight == 0);
    CHECK(flights.statistics().waiting == 0);
}
