#include <creel/fibers/trace.hpp>

#include "support/bare_waiter.hpp"
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/trace_reader.hpp"

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/fiber.hpp>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

using namespace creel::test;
using namespace std::chrono_literals;
using Catch::Contains;

namespace {

std::vector<traced_event> trace_of(test_body<manual_poller> f, std::size_t bytes = 1 << 20) {
    const temporary_file file;
    creel::scheduler_options options;
    options.trace = file.path();
    options.trace_bytes = bytes;
    CHECK(run_virtually(f, options) == nothing);
    return events_of(file.text());
}

} // namespace

TEST_CASE("a trace shows who ran when, what each fiber waited for, and who woke it") {
    const auto events = trace_of([](manual_poller& outside) {
        gate g;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn({.name = "guest"}, [&] {
                outside.advance(1us);
                g.pass();
                outside.advance(2us);
            });
            n.spawn({.name = "doorman"}, [&] {
                outside.advance(4us);
                g.open();
                outside.advance(8us);
                creel::this_fiber::sleep_for(16us);
            });
            outside.advance(32us);
        });
    });
    CHECK(story_of(events) == R"(main: runs, 0 to 0
main: spawns guest, 0
main: spawns doorman, 0
main: runs, 0 to 32
guest: runs, 32 to 33
main: its 2 children, 32 to 61, woken by doorman
guest: a gate, 33 to 37, woken by doorman
doorman: runs, 33 to 45
guest: runs, 45 to 47
doorman: a sleep, 45 to 61, timed out
guest: ends, 47
doorman: runs, 61 to 61
doorman: ends, 61
main: runs, 61 to 61
main: runs, 61 to 61
main: ends, 61
)");
}

TEST_CASE("a trace shows how waits are cancelled, and why") {
    const auto events = trace_of([](manual_poller& outside) {
        gate g;
        CHECK_FALSE(creel::move_on_after(5us, [&] { g.pass(); }));
        CHECK_FALSE(g.pass_until(outside.now() + 1us));
        creel::with_nursery({.name = "guests"}, [&](creel::nursery& n) {
            n.spawn([&] { g.pass(); });
            creel::this_fiber::yield();
            n.cancel();
        });
    });
    CHECK(story_of(events) == R"(main: runs, 0 to 0
main: runs, 0 to 0
main: a gate, 0 to 5, cancelled
thread: cancel: the deadline has passed, 5
main: runs, 5 to 5
main: a gate, 5 to 6, timed out
main: spawns task, 6
main: runs, 6 to 6
task: runs, 6 to 6
main: cancel of nursery guests, 6
task: a gate, 6 to 6, cancelled by main
main: runs, 6 to 6
main: its child, 6 to 6, woken by task
task: runs, 6 to 6
task: ends, 6
main: runs, 6 to 6
main: runs, 6 to 6
main: ends, 6
)");
}

TEST_CASE("bug: a traced run goes on when a describe() throws") {
    static constexpr creel::waiter_kind kind{
        &bare_waiter::withdraw,
        [](const creel::waiter&, std::string&) { throw std::runtime_error{"no words"}; }};
    const auto events = trace_of([](manual_poller& outside) {
        bare_waiter w{creel::withdrawal::pending, kind};
        outside.after(1us, [&w] { creel::wake(w); });
        static_cast<void>(creel::park(w));
    });
    CHECK_THAT(story_of(events), Contains(", 0 to 1, woken"));
}

TEST_CASE("a traced run polls and counts as one that is not traced") {
    const auto run = [](const creel::scheduler_options& options) {
        std::string seen;
        CHECK(run_virtually(
                  [&](manual_poller& outside) {
                      creel::with_nursery([&](creel::nursery& n) {
                          for (int i = 0; i < 200; ++i)
                              n.spawn([] {
                                  for (int j = 0; j < 5; ++j)
                                      creel::this_fiber::yield();
                              });
                      });
                      boost::fibers::fiber{[] { creel::this_fiber::yield(); }}.join();
                      const auto s = creel::statistics();
                      seen = std::to_string(outside.polls()) + " polls, " +
                             std::to_string(s.switches) + " switches, peak " +
                             std::to_string(s.peak_tasks) + ", fibers " +
                             std::to_string(s.fibers_created);
                  },
                  options) == nothing);
        return seen;
    };
    const temporary_file file;
    creel::scheduler_options traced;
    traced.trace = file.path();
    CHECK(run(traced) == run({}));
    CHECK(events_of(file.text()).size() > 1600); // slices, spawns and ends
}

TEST_CASE("bug: in a traced run, a task that a carrier takes without a switch shows as progress") {
    std::vector<creel::detail::run_progress> seen;
    static_cast<void>(trace_of([&](manual_poller&) {
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 5; ++i)
                n.spawn([&] { seen.push_back(creel::detail::scheduler::current()->progress()); });
        });
    }));
    CHECK(seen.size() == 5);
    CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
}

TEST_CASE("a full trace keeps the newest events, and the names of their fibers") {
    const auto events = trace_of(
        [](manual_poller& outside) {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn({.name = "long one"}, [&] { creel::this_fiber::sleep_for(1s); });
                for (int i = 0; i < 1000; ++i) {
                    n.spawn({.name = "short one"}, [&] { outside.advance(1us); });
                    creel::this_fiber::yield();
                }
            });
        },
        4096);
    CHECK(events.size() > 20);
    CHECK(events.size() < 4096 / 40);
    CHECK(events.back().track == "main");
    CHECK(events.back().name == "ends");
    CHECK_THAT(story_of(events), Contains("long one: a sleep") && Contains("short one: ends"));
}

TEST_CASE("write_trace() writes what there is, with the waits that go on") {
    const temporary_file file;
    creel::scheduler_options options;
    options.trace = file.path();
    std::string story;
    CHECK_FALSE(creel::write_trace());
    CHECK(run_virtually(
              [&] {
                  CHECK(file.text().empty());
                  creel::with_nursery([&](creel::nursery& n) {
                      n.spawn({.name = "sleeper"}, [] { creel::this_fiber::sleep_for(1s); });
                      creel::this_fiber::yield();
                      CHECK(creel::write_trace());
                      story = story_of(events_of(file.text()));
                  });
              },
              options) == nothing);
    CHECK_THAT(story, Contains("sleeper: a sleep, 0 to 0, no, it still waits\n"));
    CHECK_THAT(story_of(events_of(file.text())),
               Contains("sleeper: a sleep, 0 to 1e+06, timed out"));
    CHECK(run_virtually([] { CHECK_FALSE(creel::write_trace()); }) == nothing);
}

TEST_CASE("a trace that cannot be written is an error before the run begins") {
    creel::scheduler_options options;
    options.trace = "/nowhere/at/all.json";
    bool ran = false;
    CHECK_THROWS_WITH(run_virtually([&] { ran = true; }, options),
                      Contains("cannot write a trace to /nowhere/at/all.json") &&
                          Contains("No such file"));
    CHECK_FALSE(ran);
    CHECK(run_virtually([] {}) == nothing); // the thread is as it was
}

TEST_CASE("two runs at once have a trace each") {
    const temporary_file mine;
    const temporary_file others;
    const auto run = [](const temporary_file& file, const char* name) {
        creel::scheduler_options options;
        options.trace = file.path();
        return run_virtually(
            [&] {
                creel::with_nursery([&](creel::nursery& n) {
                    n.spawn({.name = name}, [] { creel::this_fiber::sleep_for(1s); });
                });
            },
            options);
    };
    leftovers left_by_other{1, 1};
    std::thread other{[&] { left_by_other = run(others, "other's"); }};
    CHECK(run(mine, "mine") == nothing);
    other.join();
    CHECK(left_by_other == nothing);
    CHECK_THAT(story_of(events_of(mine.text())), Contains("mine: a sleep") && !Contains("other's"));
    CHECK_THAT(story_of(events_of(others.text())),
               Contains("other's: a sleep") && !Contains("mine"));
}

TEST_CASE("a run that throws, fails an assertion or terminates leaves its trace") {
    const temporary_file file;
    creel::scheduler_options options;
    options.trace = file.path();
    CHECK_THROWS(run_virtually([] { throw std::runtime_error("on purpose"); }, options));
    CHECK_THAT(story_of(events_of(file.text())), Contains("main: ends"));

    const auto aborts = run_in_child([&] {
        run_virtually(
            [] {
                creel::with_nursery([](creel::nursery& n) {
                    n.spawn({.name = "culprit"}, [] { CREEL_ASSERT(1 == 2, "on purpose"); });
                });
            },
            options);
    });
    CHECK(aborts.signal == SIGABRT);
    CHECK_THAT(story_of(events_of(file.text())), Contains("culprit: runs"));
}

TEST_CASE("a trace shows Boost's fibers, and what they wait for in creel's calls") {
    const auto events = trace_of([](manual_poller& outside) {
        gate g;
        boost::fibers::fiber native{boost::fibers::launch::dispatch, [&] {
                                        outside.advance(1us);
                                        g.pass();
                                    }};
        g.open();
        native.join();
    });
    CHECK_THAT(story_of(events), Contains("Boost fiber: a gate") && Contains("woken by main\n") &&
                                     Contains("Boost fiber: ends"));
}
