#include <creel/sync/single_flight.hpp>

#include "support/child_process.hpp"
#include "support/fixture.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <catch2/catch.hpp>

#include <array>
#include <atomic>
#include <csignal>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;
using creel::sync::single_flight;

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
        CHECK(flights.run("key", [] { return 8; }) == 8); // nothing is kept
    });
    CHECK(computed == 1);
    CHECK(got == 135);
    CHECK(left == nothing);
}

TEST_CASE("an error of the leader goes to all who waited for it") {
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

TEST_CASE("a cancelled leader hands over to the one who has waited longest") {
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

TEST_CASE("stress: a follower may be cancelled while the leader on another thread lands",
          "[stress]") {
    single_flight<int, int> flights;
    std::atomic<bool> stop{false};
    std::atomic<int> wrong{0};
    std::thread leader{[&] {
        while (!stop)
            wrong += flights.run(1, [] {
                std::this_thread::yield();
                return 1;
            }) != 1;
    }};
    for (int i = 0; i < 2'000; ++i) {
        const auto got = creel::move_on_after(std::chrono::microseconds{i % 20},
                                              [&] { return flights.run(1, [] { return 1; }); });
        wrong += got.value_or(1) != 1;
    }
    stop = true;
    leader.join();
    CHECK(wrong == 0);
    CHECK(flights.statistics().in_flight == 0);
    CHECK(flights.statistics().waiting == 0);
}

TEST_CASE("asking a single_flight for a key inside its own computation is caught") {
    const auto child = run_in_child([] {
        run_virtually([] {
            single_flight<int, int> flights;
            flights.run(1, [&] { return flights.run(2, [&] { return 1; }); });
            flights.run(1, [&] { return flights.run(1, [] { return 1; }); });
        });
    });
    INFO(to_string(child));
    CHECK(child.signal == SIGABRT);
    CHECK_THAT(child.stderr_text, Catch::Contains("single_flight made at"));
    CHECK_THAT(child.stderr_text, Catch::Contains("by the function that computes it"));
}

TEST_CASE("threads share the flights of one single_flight", "[stress]") {
    single_flight<int, int> flights;
    std::array<std::atomic<int>, 3> computing{};
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    const auto ask = [&] {
        for (int i = 0; i < 500; ++i)
            wrong += flights.run(i % 3, [&] {
                auto& here = computing[static_cast<std::size_t>(i % 3)];
                wrong += here.fetch_add(1) != 0; // alone with its key
                std::this_thread::yield();
                here.fetch_sub(1);
                return i % 3;
            }) != i % 3;
    };
    for (int i = 0; i < 2; ++i) {
        threads.emplace_back(ask);
        threads.emplace_back([&] {
            run_virtually(
                [&] {
                    creel::with_nursery([&](creel::nursery& n) {
                        for (int j = 0; j < 3; ++j)
                            n.spawn(ask);
                    });
                },
                {}, manual_poller::other_threads::yes);
        });
    }
    for (auto& thread : threads)
        thread.join();
    CHECK(wrong == 0);
}
