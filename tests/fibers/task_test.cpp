#include <creel/fibers/task.hpp>

#include "support/check.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/outcome.hpp"
#include "support/process_end.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <array>
#include <chrono>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

using namespace std::chrono_literals;
using namespace creel::test;

TEST_CASE("async gives the value of its child to get") {
    const auto left = run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            auto later = n.async([] {
                creel::this_fiber::sleep_for(1s);
                return std::make_unique<int>(7);
            });
            auto at_once =
                n.async({.name = "at once"}, [] { return std::string{creel::this_fiber::name()}; });
            const bool ready_before = later.ready();
            const auto seven = later.get();
            CHECK(!ready_before);
            CHECK(*seven == 7);
            CHECK(!later.valid());
            CHECK(at_once.ready());
            CHECK(at_once.get() == "at once");
            bool ran = false;
            n.async([&] { ran = true; }).get();
            CHECK(ran);
        });
    });
    CHECK(left == nothing);
}

TEST_CASE("what the closure of async owns is gone when get returns") {
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            const auto owned = std::make_shared<int>(1);
            auto t = n.async([owned] { return *owned; });
            CHECK(t.get() == 1);
            CHECK(owned.use_count() == 1);
        });
    });
}

TEST_CASE("an error of an async child goes to get and to the nursery and counts once") {
    const auto left = run_virtually([] {
        std::string got;
        const std::string thrown = outcome_of([&] {
            creel::with_nursery([&](creel::nursery& n) {
                auto t = n.async([]() -> int { throw std::runtime_error("boom"); });
                got = outcome_of([&] { static_cast<void>(t.get()); });
                CHECK(!t.valid());
            });
        });
        CHECK(got == "boom"); // not the cancel that the error brought upon the body
        CHECK(thrown == "boom");
        // Thrown on by the body it is still one error, not a group.
        CHECK(outcome_of([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      n.async([] { throw std::runtime_error("boom"); }).get();
                  });
              }) == "boom");
    });
    CHECK(left == nothing);
}

TEST_CASE("get of a failed child outside its nursery rethrows the error") {
    run_virtually([] {
        creel::task<int> t;
        CHECK(outcome_of([&] {
                  creel::with_nursery([&](creel::nursery& n) {
                      t = n.async([]() -> int { throw std::runtime_error("boom"); });
                  });
              }) == "boom");
        CHECK(t.ready());
        CHECK(outcome_of([&] { static_cast<void>(t.get()); }) == "boom");
    });
}

TEST_CASE("get of a cancelled child throws task_cancelled") {
    const auto left = run_virtually([] {
        creel::task<int> waiting;
        creel::task<int> unstarted;
        creel::task<int> refused;
        creel::with_nursery([&](creel::nursery& n) {
            waiting = n.async([] {
                creel::this_fiber::sleep_for(1h);
                return 1;
            });
            creel::this_fiber::yield();
            unstarted = n.async([] { return 2; });
            n.cancel("enough");
            refused = n.async([] { return 3; });
        });
        CHECK(waiting.ready());
        CHECK(unstarted.ready());
        CHECK(refused.ready());
        CHECK(outcome_of([&] { static_cast<void>(waiting.get()); }) ==
              "task_cancelled: cancelled: enough");
        CHECK(outcome_of([&] { static_cast<void>(unstarted.get()); }) ==
              "task_cancelled: cancelled before it started: enough");
        CHECK(outcome_of([&] { static_cast<void>(refused.get()); }) ==
              "task_cancelled: cancelled before it started: enough");
        CHECK(!refused.valid());
    });
    CHECK(left == nothing);
}

TEST_CASE("get that is cancelled leaves the value to be fetched later") {
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            auto t = n.async([] {
                creel::this_fiber::sleep_for(2s);
                return std::string{"kept"};
            });
            CHECK(!creel::move_on_after(1s, [&] { return t.get(); }));
            CHECK(t.valid());
            CHECK(t.get() == "kept");
        });
    });
}

TEST_CASE("get checks for a cancel also when the value is there") {
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            auto t = n.async([] { return 5; });
            creel::this_fiber::yield();
            CHECK(t.ready());
            creel::cancel_scope s;
            s.cancel();
            CHECK(!s.run([&] { return t.get(); }));
            CHECK(t.get() == 5);
        });
    });
}

TEST_CASE("a child that ends in the round in which its getter is cancelled hands its value over") {
    run_virtually([](manual_poller& outside) {
        for (const bool end_first : {true, false}) {
            creel::with_nursery([&](creel::nursery& n) {
                gate g;
                auto t = n.async([&] {
                    g.pass();
                    return 9;
                });
                creel::cancel_scope s;
                outside.next_poll([&] { end_first ? g.open() : s.cancel(); });
                outside.next_poll([&] { end_first ? s.cancel() : g.open(); });
                const auto got = s.run([&] { return t.get(); });
                // The child has not run when both have come: the cancel takes the getter.
                CHECK(!got);
                CHECK(t.get() == 9);
            });
            // Here the child has ended, and its getter is woken, when the cancel comes.
            creel::with_nursery([&](creel::nursery& n) {
                creel::cancel_scope s;
                auto t = n.async([] {
                    creel::this_fiber::yield();
                    return 9;
                });
                n.spawn([&] {
                    creel::this_fiber::yield();
                    CHECK(t.ready());
                    s.cancel();
                });
                const auto got = s.run([&] { return t.get(); });
                CHECK(got == 9);
            });
        }
    });
}

TEST_CASE("a dropped handle does not stop its child") {
    const auto left = run_virtually([] {
        int ended = 0;
        auto value = std::make_shared<int>(1);
        creel::with_nursery([&](creel::nursery& n) {
            static_cast<void>(n.async([&] {
                creel::this_fiber::sleep_for(1s);
                ++ended;
                return value;
            }));
            auto t = n.async([&] {
                ++ended;
                return value;
            });
            creel::this_fiber::yield();
            CHECK(value.use_count() == 2);
            t = {};
            CHECK(value.use_count() == 1);
        });
        CHECK(ended == 2);
        CHECK(value.use_count() == 1); // the unused result is destroyed too
    });
    CHECK(left == nothing);
}

TEST_CASE("a task handle may outlive its nursery and its run") {
    std::vector<creel::task<std::string>> kept;
    for (int i = 0; i < 3; ++i)
        run_virtually([&] {
            creel::with_nursery([&](creel::nursery& n) {
                for (int k = 0; k < 500; ++k) // more than one slab
                    kept.push_back(
                        n.async([k] { return std::string(100, 'x') + char('a' + k % 7); }));
                // Larger than any node.
                kept.push_back(n.async([big = std::array<char, 2000>{}] {
                    return std::string(1, char('b' + big[7]));
                }));
            });
            CHECK(kept.back().get() == "b");
            kept.pop_back();
        });
    CHECK(kept.size() == 1500);
    CHECK(kept[1].get() == std::string(100, 'x') + 'b');
    CHECK(kept[700].ready());
    // The other tasks are destroyed on another thread, while this one runs again.
    run_virtually([&] {
        std::thread{[mine = std::move(kept)] {}}.join();
        creel::with_nursery([](creel::nursery& n) { CHECK(n.async([] { return 1; }).get() == 1); });
    });
}

TEST_CASE("handles that are moved onto themselves are as before") {
    run_virtually([] {
        creel::with_nursery([](creel::nursery& n) {
            auto child = n.async([] { return 7; });
            auto& same_child = child;
            child = std::move(same_child);
            CHECK(child.get() == 7);
            auto remote = n.remote();
            auto& same_remote = remote;
            remote = std::move(same_remote);
            const bool accepted = remote.spawn([] {});
            CHECK(accepted);
            auto token = n.token();
            auto& same_token = token;
            token = std::move(same_token);
            CHECK(token == n.token());
        });
    });
}

TEST_CASE("task_cancelled tells which child it was and why it was cancelled") {
    std::vector<std::string> told;
    const auto endless = [] {
        creel::this_fiber::sleep_for(1h);
        return 1;
    };
    const unsigned line = __LINE__ + 1;
    const auto spawn = [&](creel::nursery& n) { return n.async(endless); };
    run_virtually([&] {
        std::vector<creel::task<int>> children;
        creel::with_nursery([&](creel::nursery& n) {
            children.push_back(spawn(n));
            creel::this_fiber::yield(); // it has started
            children.push_back(spawn(n));
            n.scope().cancel(creel::cancel_reason{creel::cancel_cause::shutdown, "enough", 0});
            children.push_back(spawn(n));
        });
        for (creel::task<int>& child : children)
            try {
                static_cast<void>(child.get());
            } catch (const creel::task_cancelled& e) {
                CHECK(e.reason().cause == creel::cancel_cause::shutdown);
                CHECK(e.reason().text == "enough");
                CHECK(e.where().line() == line);
                const creel::task_cancelled copy = e;
                told.emplace_back(copy.what());
            }
    });
    REQUIRE(told.size() == 3);
    const std::string place = "task_test.cpp:" + std::to_string(line) + ")";
    for (const std::string& text : told)
        CHECK_THAT(text, Catch::EndsWith(place));
    CHECK_THAT(told[0], Catch::StartsWith("cancelled: enough ("));
    CHECK_THAT(told[2], Catch::StartsWith("cancelled before it started: enough ("));
}

TEST_CASE("get outside the run throws task_cancelled for a child that was cancelled") {
    std::optional<creel::task<int>> t;
    run_virtually([&] {
        creel::with_nursery([&](creel::nursery& n) {
            t = n.async([] {
                creel::this_fiber::sleep_for(1h);
                return 1;
            });
            n.spawn([&] { n.cancel("late"); });
        });
    });
    CHECK(outcome_of([&] { static_cast<void>(t->get()); }) == "task_cancelled: cancelled: late");
}

TEST_CASE("a task handle is used up by get") {
    CHECK_THAT(abort_of_run([] {
                   creel::with_nursery([](creel::nursery& n) {
                       auto t = n.async([] { return 1; });
                       static_cast<void>(t.get());
                       static_cast<void>(t.get());
                   });
               }),
               Catch::Contains("this task<R> is empty"));
}

TEST_CASE("a child that waits for its own result ends the process with a reason") {
    const std::string message = abort_of_run([] {
        creel::task<void> t; // outlives the child, which asks it
        creel::with_nursery([&](creel::nursery& n) { t = n.async([&] { t.get(); }); });
    });
    CHECK_THAT(message, Catch::Contains("waits in get() for its own end"));
}

TEST_CASE("a task handle dropped on another thread while its run goes on ends the process") {
    CHECK_THAT(abort_of_run([] {
                   creel::with_nursery([](creel::nursery& n) {
                       auto t = n.async([] { return 1; });
                       std::thread{[mine = std::move(t)] {}}.join();
                   });
               }),
               Catch::Contains("dropped on its nursery's thread"));
}
