#include "support/becomes_true.hpp"
#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/clock_poller.hpp"
#include "support/count_of.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/json.hpp"
#include "support/sanitizers.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/unwind/saved_registers.hpp>
#include <creel/fibers/dump.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/fiber.hpp>
#include <boost/fiber/mutex.hpp>

#include <atomic>
#include <chrono>
#include <mutex>
#include <ostream>
#include <regex>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace creel::test;
using namespace std::chrono_literals;
using Catch::Contains;

namespace {

bool can_unwind_here() {
    return creel::detail::learn_saved_registers().known != 0;
}

[[gnu::noinline]] void inner_function(gate& g) {
    g.pass();
    asm volatile(""); // so that the call before is none to a function that replaces this one
}
[[gnu::noinline]] void outer_function(gate& g) {
    inner_function(g);
    asm volatile("");
}

std::string dump_of(const creel::dump_options& options) {
    std::ostringstream out;
    creel::dump_fibers(out, options);
    return out.str();
}

// On a machine that is busy with other tests, a thread may have no core for a long time.
std::string dump(creel::dump_options options = {}) {
    options.patience = 20s;
    return dump_of(options);
}

// A run in which other threads may wake fibers: the thread that makes a dump does so.
void run_with_dumps(test_body<manual_poller> f, creel::scheduler_options options = {}) {
    CHECK(run_virtually(std::move(f), options, manual_poller::other_threads::yes) == nothing);
}

// The same for a thread that is not the test's own: Catch2 is not for several threads.
void run_with_dumps_elsewhere(test_body<manual_poller> f) {
    expect(run_virtually(std::move(f), {}, manual_poller::other_threads::yes) == nothing);
}

bool matches(const std::string& text, const char* pattern) {
    return std::regex_search(text, std::regex{pattern});
}

} // namespace

TEST_CASE("a dump shows each fiber below its parent, with its name, spawn site, nursery and wait") {
    std::string text;
    run_with_dumps([&] {
        gate never;
        creel::with_nursery({.name = "workers"}, [&](creel::nursery& n) {
            n.spawn({.name = "parent"}, [&] {
                creel::with_nursery([&](creel::nursery& inner) {
                    inner.spawn({.name = "child"}, [&] { never.pass(); });
                });
            });
            settle();
            n.spawn({.name = "young"}, [] {});
            text = dump();
            n.cancel();
        });
    });
    INFO(text);
    CHECK(matches(text, "^run [0-9]+: thread [0-9]+ \"[^\"]+\"; [0-9]+ tasks, [0-9]+ fibers"));
    CHECK(matches(text, "\n  main \\(#[0-9]+\\) waits for a dump of all fibers, for "));
    CHECK(matches(text,
                  "\n    parent \\(#[0-9]+, spawned at [^ ]*dump_test.cpp:[0-9]+\\) in workers "
                  "waits for its child, for "));
    CHECK(matches(text, "\n      child \\(#[0-9]+, spawned at [^ ]*dump_test.cpp:[0-9]+\\) waits "
                        "for a gate, for "));
}

TEST_CASE(
    "a dump has the backtrace of each fiber, without what lies between the program and creel") {
    std::string text;
    std::string all;
    run_with_dumps([&] {
        gate g;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn({.name = "deep"}, [&] { outer_function(g); });
            settle();
            text = dump();
            all = dump({.most_frames = 64, .all_frames = true});
            g.open();
        });
    });
    INFO(text);
    if (!can_unwind_here())
        return;
    const std::size_t inner = text.find("inner_function");
    const std::size_t outer = text.find("outer_function");
    CHECK(inner != text.npos);
    CHECK(outer != text.npos);
    CHECK(inner < outer);
    CHECK_THAT(text, !Contains("creel::detail::") && !Contains("boost::"));
    CHECK_THAT(all, Contains("creel::detail::scheduler::"));
}

TEST_CASE("a dump of one fiber shows it alone, also where all would be groups") {
    std::string one;
    std::string none;
    run_with_dumps([&] {
        gate never;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn({.name = "other"}, [&] { never.pass(); });
            std::uint64_t number = 0;
            n.spawn({.name = "wanted"}, [&] {
                number = creel::this_fiber::id();
                outer_function(never);
            });
            settle();
            one = dump({.most_fibers = 0, .fiber = number});
            none = dump({.fiber = 1'000'000'000});
            n.cancel();
        });
    });
    INFO(one);
    CHECK(matches(
        one, "\n  wanted \\(#[0-9]+, spawned at [^ ]*dump_test.cpp:[0-9]+\\) waits for a gate"));
    CHECK_FALSE(matches(one, "other|main \\("));
    CHECK(none == "there is no fiber #1000000000\n");
}

TEST_CASE("bug: a dump of one fiber finds it among many, in whatever state it is") {
    constexpr int many = 150; // the walk looks at the clock twice
    std::string parked;
    std::string ready;
    std::string not_started;
    run_with_dumps([&] {
        gate never;
        creel::with_nursery([&](creel::nursery& n) {
            std::uint64_t oldest = 0;
            n.spawn([&] {
                oldest = creel::this_fiber::id();
                never.pass();
            });
            for (int i = 0; i < many; ++i)
                n.spawn([&] { never.pass(); });
            std::uint64_t yields = 0;
            n.spawn([&] {
                yields = creel::this_fiber::id();
                for (;;)
                    creel::this_fiber::yield();
            });
            settle();
            parked = dump({.fiber = oldest});
            ready = dump({.fiber = yields});
            n.spawn([] {});
            not_started = dump({.fiber = yields + 1});
            n.cancel();
        });
    });
    CHECK_THAT(parked, Contains("waits for a gate"));
    CHECK_THAT(ready, Contains(" is ready"));
    CHECK_THAT(not_started, Contains("has not started") || Contains("there is no fiber"));
}

TEST_CASE("a dump tells how long a fiber has waited, and until when it may") {
    std::string text;
    clock_poller outside; // a virtual clock would go on to the deadline during the dump
    creel::run_scheduler(outside, {}, [&] {
        gate never;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn({.name = "patient"},
                    [&] { static_cast<void>(creel::move_on_after(1h, [&] { never.pass(); })); });
            settle();
            text = dump();
            n.cancel();
        });
    });
    INFO(text);
    CHECK(matches(text, "patient .* waits for a gate, for [0-9.]+[num]?s, deadline in 3[0-9.]+s"));
}

TEST_CASE("a dump tells of a cancel that is asked for, and of one that is in effect") {
    std::string asked;
    std::string in_effect;
    clock_poller outside;
    creel::run_scheduler(outside, {}, [&] {
        gate g;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn({.name = "asked"}, [&] { g.pass(); });
            n.spawn({.name = "shielded"}, [&] { creel::shield([&] { g.pass(); }); });
            n.spawn({.name = "nested"}, [&] {
                creel::with_nursery([&](creel::nursery& inner) {
                    inner.spawn([&] { creel::shield([&] { g.pass(); }); });
                });
            });
            settle();
            n.cancel("maintenance", 1h);
            asked = dump();
            n.cancel();
            in_effect = dump();
            g.open();
        });
    });
    INFO(asked);
    CHECK(matches(asked, "asked .* waits for a gate, for [^,]*, deadline in 3[0-9.]+s, asked to "
                         "end: maintenance"));
    CHECK_FALSE(matches(asked, "shielded .*maintenance"));
    INFO(in_effect);
    CHECK(matches(in_effect, "nested .* waits for its child, for [^,]*, cancelled: maintenance"));
    CHECK(matches(in_effect, "shielded .*, shielded from a cancel: maintenance"));
}

TEST_CASE("a dump shows tasks that have no fiber yet") {
    std::string text;
    run_with_dumps(
        [&] {
            gate g;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn({.name = "first"}, [&] { g.pass(); });
                n.spawn({.name = "second"}, [&] { g.pass(); });
                settle();
                text = dump();
                g.open();
            });
        },
        {.max_fibers = 1});
    INFO(text);
    CHECK(matches(text, "second .* has not started: it waits for one of max_fibers to end"));
}

TEST_CASE("a dump shows Boost's fibers, also those that wait by Boost's own means") {
    std::string text;
    run_with_dumps([&] {
        gate g;
        boost::fibers::mutex boosts;
        boosts.lock();
        boost::fibers::fiber in_creel{[&] { g.pass(); }};
        boost::fibers::fiber in_boost{[&] { const std::lock_guard hold{boosts}; }};
        settle();
        text = dump();
        boosts.unlock();
        g.open();
        in_creel.join();
        in_boost.join();
    });
    INFO(text);
    CHECK(matches(text, "\n  Boost fiber #[0-9]+ waits for a gate"));
    CHECK(matches(text, "\n  Boost fiber #[0-9]+ waits outside creel"));
}

TEST_CASE("a dump of many fibers groups them by spawn site and wait") {
    std::string text;
    std::string json;
    run_with_dumps([&] {
        gate g;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 2'000; ++i)
                n.spawn({.name = "waits"}, [&] { g.pass(); });
            for (int i = 0; i < 300; ++i)
                n.spawn([&] { g.pass(); });
            settle();
            for (int i = 0; i < 5; ++i)
                n.spawn([] {});
            text = dump({.most_fibers = 100});
            json = dump({.format = creel::dump_format::json, .most_fibers = 100});
            g.open();
        });
    });
    INFO(text);
    CHECK(matches(text,
                  "\n  2,000 fibers spawned at [^ ]*dump_test.cpp:[0-9]+ wait for a gate, for "
                  "[^ ]* to [^ ]* \\(the longest: #[0-9]+\\); one of them is waits \\(#"));
    CHECK(matches(text, "\n  300 fibers spawned at "));
    CHECK(matches(text, "\n  main \\(#[0-9]+\\) waits for a dump"));
    CHECK(is_json(json));
    CHECK_THAT(json, Contains("{\"count\":2000,"));
}

// Each slice takes some milliseconds, and this many backtraces take several.
TEST_CASE("bug: a list that takes many slices comes to its end, with a backtrace of each fiber") {
    constexpr std::size_t fibers = 2'000;
    std::string json;
    run_with_dumps([&] {
        gate g;
        creel::with_nursery([&](creel::nursery& n) {
            for (std::size_t i = 0; i < fibers; ++i)
                n.spawn([&] { inner_function(g); });
            settle();
            json = dump({.format = creel::dump_format::json, .most_fibers = 10'000});
            g.open();
        });
    });
    CHECK(is_json(json));
    CHECK(count_of("\"waits_for\":\"a gate\"", json) == fibers);
    if (can_unwind_here())
        CHECK(count_of("inner_function", json) == fibers);
}

TEST_CASE("bug: many Boost fibers are grouped, as many tasks are") {
    std::string text;
    run_with_dumps([&] {
        gate g;
        std::vector<boost::fibers::fiber> natives;
        for (int i = 0; i < 50; ++i)
            natives.emplace_back([&] { g.pass(); });
        settle();
        text = dump({.most_fibers = 20});
        g.open();
        for (boost::fibers::fiber& f : natives)
            f.join();
    });
    INFO(text);
    CHECK(matches(text, "\n  50 fibers of Boost wait for a gate"));
}

TEST_CASE("bug: two dumps at once take neither for stalled, and lose none") {
    std::atomic<bool> parked{false};
    gate end;
    std::thread server{[&] {
        run_with_dumps_elsewhere([&] {
            creel::with_nursery([&](creel::nursery& n) {
                for (int i = 0; i < 1'000; ++i)
                    n.spawn([&] { end.pass(); });
                settle();
                parked = true;
            });
        });
    }};
    while (!parked)
        std::this_thread::yield();
    std::string first;
    std::thread other{[&] { first = dump(); }};
    const std::string second = dump();
    other.join();
    end.open();
    server.join();
    for (const std::string& text : {first, second}) {
        CHECK(count_of(" waits for a gate", text) == 1'000);
        CHECK_THAT(text, !Contains("stalled"));
    }
}

TEST_CASE("a dump as JSON is JSON, whatever the names are") {
    std::string json;
    run_with_dumps([&] {
        gate g;
        creel::with_nursery([&](creel::nursery& n) {
            n.spawn({.name = "quote \" backslash \\ line\n bell\a \xff \u00e9"}, [&] { g.pass(); });
            settle();
            json = dump({.format = creel::dump_format::json});
            g.open();
        });
    });
    INFO(json);
    CHECK(is_json(json));
    CHECK_THAT(json, Contains(R"("name":"quote \" backslash \\ line\u000a bell\u0007 \ufffd é")"));
    CHECK_THAT(json, Contains(R"("waits_for":"a gate")"));
}

TEST_CASE("a dump on a process without a run says so") {
    CHECK(dump() == "no run of creel is on\n");
    CHECK(is_json(dump({.format = creel::dump_format::json})));
}

TEST_CASE("a plain thread dumps the fibers of all runs") {
    std::atomic<int> parked{0};
    gate end;
    const auto server = [&](const char* name) {
        run_with_dumps_elsewhere([&, name] {
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn({.name = name}, [&] {
                    ++parked;
                    end.pass();
                });
            });
        });
    };
    std::thread first{server, "on the first"};
    std::thread second{server, "on the second"};
    while (parked != 2)
        std::this_thread::yield();
    const std::string text = dump();
    end.open();
    first.join();
    second.join();
    INFO(text);
    CHECK(matches(text, "run [0-9]+: [^]*run [0-9]+: "));
    CHECK_THAT(text, Contains("on the first") && Contains("on the second"));
}

TEST_CASE("a thread that does not answer is shown as stalled, and takes the request later") {
    std::atomic<bool> computes{false};
    std::atomic<bool> stop{false};
    std::thread busy{[&] {
        clock_poller outside; // a dump tells how long ago its last poll was, by the real clock
        creel::run_scheduler(outside, {}, [&] {
            gate never;
            creel::with_nursery([&](creel::nursery& n) {
                n.spawn([&] { never.pass(); });
                settle_and_poll();
                computes = true;
                while (!stop) {
                }
                n.cancel();
            });
        });
    }};
    while (!computes)
        std::this_thread::yield();
    const std::string text = dump_of({});
    const std::string json = dump_of({.format = creel::dump_format::json});
    stop = true;
    busy.join();
    INFO(text);
    CHECK(matches(text, "; 1 task, 1 fiber, 0 of them idle, at its last poll [0-9.]+[num]?s "
                        "ago\n  stalled: it did not answer within 100ms"));
    CHECK(is_json(json));
    CHECK_THAT(json, Contains("\"stalled\":true"));
}

namespace {

// Hears nothing until it is told to: the run is as one whose thread gets no processor.
class deaf_poller final : public creel::poller {
public:
    creel::time_point now() noexcept override { return creel::clock::now(); }
    void poll() noexcept override {}
    void wait_until(creel::time_point) noexcept override {
        is_deaf_ = true;
        while (!hears)
            std::this_thread::yield();
    }
    void wake() noexcept override {}

    std::atomic<bool> hears{false};
    [[nodiscard]] bool is_deaf() const noexcept { return is_deaf_; }

private:
    std::atomic<bool> is_deaf_{false};
};

} // namespace

TEST_CASE("bug: a run that is only late is not shown as stalled, and no fiber is accused") {
    deaf_poller outside;
    gate end;
    std::thread deaf{[&] { creel::run_scheduler(outside, {}, [&] { end.pass(); }); }};
    while (!outside.is_deaf())
        std::this_thread::yield();
    const std::string text = dump_of({.patience = 1ms});
    const std::string json = dump_of({.format = creel::dump_format::json, .patience = 1ms});
    const std::string other = dump_of({.patience = 1ms, .fiber = 1'000'000'000});
    end.open();
    outside.hears = true;
    deaf.join();
    INFO(text);
    CHECK_THAT(text, Contains("\n  late: it did not answer within 2ms, but it waits for events") &&
                         !Contains("stalled"));
    CHECK(is_json(json));
    CHECK_THAT(json, Contains("\"stalled\":false,\"late\":true") && !Contains("\"does\""));
    CHECK_THAT(other, Contains("late: "));
}

TEST_CASE("dumps while fibers come and go, and runs begin and end [stress]", "[stress]") {
    std::atomic<bool> stop{false};
    const auto churn = [&](int fibers) {
        while (!stop)
            run_with_dumps_elsewhere([&] {
                for (int round = 0; round < 20 && !stop; ++round)
                    creel::with_nursery([&](creel::nursery& n) {
                        for (int i = 0; i < fibers; ++i)
                            n.spawn([] {
                                creel::this_fiber::yield();
                                creel::with_nursery([](creel::nursery& inner) {
                                    inner.spawn([] { creel::this_fiber::yield(); });
                                });
                            });
                    });
            });
    };
    std::thread few{churn, 10};
    // Under a sanitizer a dump of 1,000 tasks takes the better part of a second.
    std::thread many{churn, under_asan || under_tsan ? 50 : 500};
    int of_both = 0;
    unsigned dumps = 0;
    CHECK(becomes_true([&] {
        const std::string json = dump(
            {.format = creel::dump_format::json, .most_fibers = ++dumps % 2 == 0 ? 10u : 10'000u});
        CHECK(is_json(json));
        const std::string_view run = "{\"thread\":";
        of_both += json.find(run) != json.rfind(run) ? 1 : 0;
        return of_both == 10;
    }));
    stop = true;
    few.join();
    many.join();
}
