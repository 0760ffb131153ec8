#include "support/check.hpp"
#include "support/child_process.hpp"
#include "support/clock_poller.hpp"
#include "support/fixture.hpp"
#include "support/gate.hpp"
#include "support/settle.hpp"

#include <creel/fibers/cancel_by_name.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/process_statistics.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <regex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

using namespace creel::test;
using namespace std::chrono_literals;
using Catch::Contains;

namespace {

// On a machine that is busy with other tests, a thread may have no core for a long time.
creel::process_statistics statistics_of_all() {
    return creel::all_statistics(20s);
}

void run_asked(test_body<manual_poller> f, const creel::scheduler_options& options = {}) {
    CHECK(run_virtually(std::move(f), options, manual_poller::other_threads::yes) == nothing);
}

std::size_t runs_on(const creel::process_statistics& told) {
    return static_cast<std::size_t>(
        std::count_if(told.runs.begin(), told.runs.end(), [](const auto& r) { return r.is_on; }));
}

struct two_values : creel::statistics_source {
    static constexpr std::array<creel::statistic, 2> all{
        {{"test_doors_total", "Doors.", true}, {"test_windows", "Windows.", false}}};

    two_values() : statistics_source{all, &read_both} {}
    static void read_both(const statistics_source& self, std::span<std::uint64_t> values) noexcept {
        values[0] = static_cast<const two_values&>(self).doors;
        values[1] = 7;
    }
    std::uint64_t doors = 0;
};

struct one_value : creel::statistics_source {
    static constexpr std::array<creel::statistic, 1> all{{{"test_roofs_total", "Roofs.", true}}};

    one_value() : statistics_source{all, &read_one} {}
    static void read_one(const statistics_source&, std::span<std::uint64_t> values) noexcept {
        values[0] = 5;
    }
};

} // namespace

TEST_CASE("the counters of all runs have those of a run that is on") {
    const creel::process_statistics before = statistics_of_all();
    creel::process_statistics during;
    run_asked([&] {
        gate never;
        creel::with_nursery([&](creel::nursery& n) {
            for (int i = 0; i < 3; ++i)
                n.spawn([&] { never.pass(); });
            settle();
            during = statistics_of_all();
            n.cancel();
        });
    });
    CHECK(before.runs_on == 0);
    CHECK(during.runs_on == 1);
    CHECK(during.runs_stalled == 0);
    CHECK(runs_on(during) == 1);
    CHECK(during.tasks_alive == 3);
    CHECK(during.all.fibers_alive >= 3);
    CHECK(during.all.tasks_spawned == before.all.tasks_spawned + 3);
}

TEST_CASE("the counters of all runs keep those of runs that have ended") {
    creel::process_statistics during;
    const auto run_once = [&] {
        run_asked([&] {
            creel::with_nursery([](creel::nursery& n) { n.spawn([] {}); });
            during = statistics_of_all();
        });
    };
    run_once();
    const creel::process_statistics first = statistics_of_all();
    CHECK(first.runs_on == 0);
    CHECK(first.tasks_alive == 0);
    CHECK(first.all.tasks_spawned == during.all.tasks_spawned);
    CHECK(first.all.switches >= during.all.switches);
    run_once();
    CHECK(during.all.tasks_spawned == first.all.tasks_spawned + 1);
    CHECK(during.runs.size() == first.runs.size()); // the number is used again
}

TEST_CASE("a run that does not answer is told as stalled, with what it had told before") {
    std::atomic<bool> asked{false};
    std::atomic<bool> is_stuck{false};
    std::atomic<bool> go_on{false};
    std::thread stuck{[&] {
        clock_poller outside;
        creel::run_scheduler(outside, {}, [&] {
            creel::with_nursery([&](creel::nursery& n) { n.spawn([] {}); });
            while (!asked)
                creel::this_fiber::sleep_for(1ms);
            is_stuck = true;
            while (!go_on)
                std::this_thread::yield();
        });
    }};
    while (statistics_of_all().runs_on == 0)
        std::this_thread::yield();
    const creel::process_statistics before = statistics_of_all();
    asked = true;
    while (!is_stuck)
        std::this_thread::yield();
    const creel::process_statistics during = creel::all_statistics(1ms);
    go_on = true;
    stuck.join();
    CHECK(during.runs_stalled == 1);
    CHECK(during.all.tasks_spawned >= 1);
    CHECK(during.all.tasks_spawned == before.all.tasks_spawned);
    CHECK(statistics_of_all().runs_stalled == 0);
}

TEST_CASE("an entry point's counters add up over its runs, and its gauges do not") {
    two_values source;
    creel::process_statistics during;
    const auto run_with = [&](std::uint64_t doors) {
        run_asked(
            [&] {
                source.doors = doors;
                during = statistics_of_all();
            },
            {.statistics = &source});
    };
    run_with(3);
    run_with(4);
    const auto it =
        std::find_if(during.runs.begin(), during.runs.end(), [](const auto& r) { return r.is_on; });
    const bool found = it != during.runs.end() && it->more.size() == 2;
    REQUIRE(found);
    CHECK(it->more[0] == 7);
    CHECK(it->more[1] == 7);
    std::ostringstream text;
    creel::write_prometheus(text, during);
    CHECK_THAT(text.str(), Contains("# TYPE test_doors_total counter\ntest_doors_total{run=\"") &&
                               Contains("# TYPE test_windows gauge\n"));
}

TEST_CASE("bug: an entry point's counters do not go back when a run of another one is between") {
    one_value source;
    const auto run_with = [&](const creel::statistics_source* more) {
        run_asked([] {}, {.statistics = more});
        std::ostringstream text;
        creel::write_prometheus(text, statistics_of_all());
        return text.str();
    };
    const std::string first = run_with(&source);
    const std::string between = run_with(nullptr);
    const std::string again = run_with(&source);
    const auto value = [](const std::string& text) {
        std::smatch found;
        const std::regex sample{"\ntest_roofs_total\\{[^}]*\\} ([0-9]+)"};
        return std::regex_search(text, found, sample) ? found[1].str() : std::string{};
    };
    CHECK(value(first) == "5");
    CHECK(value(between) == "5");
    CHECK(value(again) == "10");
}

TEST_CASE("the text for Prometheus keeps to its format") {
    std::ostringstream text;
    run_asked([&] {
        creel::with_nursery([](creel::nursery& n) {
            n.spawn([] { creel::this_fiber::sleep_for(1h); });
            settle();
            n.cancel();
        });
        creel::write_prometheus(text, statistics_of_all());
    });
    INFO(text.str());
    const std::regex sample{R"re(([a-z_]+)(\{([a-z_]+="[^"]*",?)+\})? [0-9]+(\.[0-9]+)?)re"};
    std::map<std::string, int> types;
    std::istringstream lines{text.str()};
    std::string line;
    std::string metric;
    int odd_lines = 0;
    std::uint64_t in_bucket = 0;
    std::uint64_t most_in_bucket = 0; // of any run
    bool buckets_rise = true;
    while (std::getline(lines, line)) {
        std::smatch found;
        if (line.rfind("# HELP ", 0) == 0) {
            metric = line.substr(7, line.find(' ', 7) - 7);
            continue;
        }
        if (line.rfind("# TYPE " + metric + ' ', 0) == 0) {
            ++types[metric];
            continue;
        }
        if (!std::regex_match(line, found, sample) || found[1].str().rfind(metric, 0) != 0)
            ++odd_lines;
        if (line.find("_bucket{") != line.npos) {
            const std::uint64_t value = std::stoull(line.substr(line.rfind(' ')));
            buckets_rise =
                buckets_rise && (line.find("le=\"1.024e-06\"") != line.npos || value >= in_bucket);
            in_bucket = value;
            most_in_bucket = std::max(most_in_bucket, value);
        }
    }
    CHECK(odd_lines == 0);
    CHECK(buckets_rise);
    CHECK(most_in_bucket >= 1); // the cancel above
    CHECK(types.size() > 15);
    CHECK(std::all_of(types.begin(), types.end(), [](const auto& t) { return t.second == 1; }));
    CHECK(types.contains("creel_switches_total"));
    CHECK(types.contains("creel_stalls_total"));
}

TEST_CASE("a forked child counts from zero") {
    run_asked([] { creel::with_nursery([](creel::nursery& n) { n.spawn([] {}); }); });
    const auto child = run_in_child([] {
        expect(creel::all_statistics().runs.empty());
        clock_poller outside;
        creel::run_scheduler(outside, {}, [] {});
        const creel::process_statistics told = creel::all_statistics();
        expect(told.runs.size() == 1 && told.runs[0].number == 1);
        expect(told.all.tasks_spawned == 0);
    });
    INFO(to_string(child));
    CHECK(child.exited);
    CHECK(child.exit_code == 0);
}

TEST_CASE("runs may begin and end while others ask for all counters and cancel by name",
          "[stress]") {
    constexpr int rounds = 40;
    std::atomic<int> busy{2};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i)
        threads.emplace_back([&] {
            for (int round = 0; round < rounds; ++round) {
                clock_poller outside;
                creel::run_scheduler(outside, {}, [] {
                    creel::with_nursery({.name = "victims"}, [](creel::nursery& n) {
                        for (int child = 0; child < 20; ++child)
                            n.spawn([] {
                                creel::with_nursery({.name = "inner"}, [](creel::nursery& inner) {
                                    inner.spawn([] { creel::this_fiber::sleep_for(1ms); });
                                });
                            });
                    });
                });
            }
            --busy;
        });
    bool went_back = false;
    std::uint64_t spawned = 0;
    while (busy != 0) {
        const creel::process_statistics now = creel::all_statistics(20s);
        went_back = went_back || now.all.tasks_spawned < spawned;
        spawned = now.all.tasks_spawned;
        static_cast<void>(creel::cancel_nurseries("inner", "the test"));
        static_cast<void>(creel::cancel_nurseries("victims", "the test"));
    }
    for (std::thread& t : threads)
        t.join();
    CHECK_FALSE(went_back);
    CHECK(spawned > 0);
}
