// The debug family: what looking at a program costs it. 100,000 fibers wait, and one more runs all
// the time; a plain thread dumps them, grouped. Measured are the length of the first dump, which
// reads the program's debug information, and of the second, and the longest time for which the
// fiber that runs could not, during the second. All in wall-clock time: a thread is held up by the
// clock. Each measurement has a process of its own.
//
// And the CPU time that a request costs creel's server of the echo family, in debug mode, traced,
// and with neither; the servers take turns within each round.

#include "alone.hpp"
#include "harness.hpp"
#include "report.hpp"

#include "echo/creel_server.hpp"
#include "echo/measurement.hpp"

#include <creel/fibers/dump.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>
#include <creel/sync/event.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

namespace creel::bench {
namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;
using milliseconds = std::chrono::duration<double, std::milli>;

constexpr std::uint64_t waiting_fibers = 100'000;

struct dump_figures {
    milliseconds first{};
    milliseconds second{};
    milliseconds longest_hold{};
};

milliseconds dump_once() {
    std::ostringstream out;
    const auto began = steady_clock::now();
    dump_fibers(out);
    const milliseconds took = steady_clock::now() - began;
    if (out.str().find("  100,000 fibers spawned at ") == std::string::npos)
        throw std::runtime_error("the dump does not show the 100,000 fibers");
    return took;
}

// Runs until it is told to end; the result is the longest time between two of its turns.
milliseconds longest_pause(const std::atomic<bool>& measures, const std::atomic<bool>& ends) {
    milliseconds longest{};
    auto last = steady_clock::now();
    while (!ends.load(std::memory_order_relaxed)) {
        this_fiber::yield();
        const auto now = steady_clock::now();
        if (measures.load(std::memory_order_relaxed))
            longest = std::max(longest, milliseconds{now - last});
        last = now;
    }
    return longest;
}

dump_figures dump_of(std::uint64_t fibers) {
    dump_figures result;
    std::atomic<bool> measures{false};
    std::atomic<bool> ends{false};
    std::string failure;
    io::run([&] {
        sync::event never;
        with_nursery([&](nursery& n) {
            for (std::uint64_t left = fibers; left > 0; --left)
                n.spawn([&] { never.wait(); });
            this_fiber::yield(); // until all of them wait
            std::thread looks{[&] {
                try {
                    result.first = dump_once();
                    measures = true;
                    result.second = dump_once();
                } catch (const std::exception& error) {
                    failure = error.what();
                }
                ends = true;
            }};
            result.longest_hold = longest_pause(measures, ends);
            looks.join();
            n.cancel();
        });
    });
    if (!failure.empty())
        throw std::runtime_error(failure);
    return result;
}

family make_debug() {
    struct figure_of_dump {
        const char* name;
        milliseconds dump_figures::*value;
    };
    static constexpr figure_of_dump figures_of_dump[]{
        {"first_dump:100000", &dump_figures::first},
        {"dump:100000", &dump_figures::second},
        {"longest_hold:100000", &dump_figures::longest_hold}};
    family result;
    result.name = "debug";
    result.figures = {{"", "ms"}};
    for (const figure_of_dump& f : figures_of_dump)
        result.cases.emplace_back(f.name);
    result.candidates.push_back(
        {"creel", false,
         [](std::size_t which, const effort&) -> values {
             return measure_alone("debug/creel/" + std::string{figures_of_dump[which].name},
                                  waiting_fibers);
         },
         [](std::size_t which, std::uint64_t fibers) -> values {
             return {(dump_of(fibers).*figures_of_dump[which].value).count()};
         }});
    return result;
}

constexpr unsigned echo_connections = 64;
constexpr unsigned echo_bytes = 64;
constexpr double most_of_debug = 1.15; // times the CPU time without debug mode

// The server is killed: its trace is never written.
const echo::server echo_servers[]{
    {"echo_cpu_off", false, [](int pipe) { echo::serve_by_creel(pipe, {}); }},
    {"echo_cpu_on", false, [](int pipe) { echo::serve_by_creel(pipe, {.debug = true}); }},
    {"echo_cpu_trace", false,
     [](int pipe) { echo::serve_by_creel(pipe, {.trace = "/dev/null"}); }}};

double echo_cpu(const echo::server& server, bool quick) {
    const echo::load wanted{echo_connections, echo_bytes, quick ? 100ms : 300ms,
                            quick ? 300ms : 1000ms};
    const auto seen = echo::measure(server, wanted);
    return seen.server_cpu_seconds * 1e9 / static_cast<double>(seen.requests);
}

family make_echo() {
    family result;
    result.name = "debug";
    result.figures = {{"", "ns"}};
    result.conclude = [](std::ostream& out, const family_results& all) {
        const auto find = [&all](const std::string& name) {
            const auto is_it = [&name](const auto& r) { return r.case_name == name; };
            const auto found = std::find_if(all.results.begin(), all.results.end(), is_it);
            return found != all.results.end() ? &*found : nullptr;
        };
        const auto* off = find(echo_servers[0].name);
        if (const auto* on = find(echo_servers[1].name); on != nullptr && off != nullptr) {
            print_verdict_heading(out);
            print_verdict(out, all, *on, *off, 0, most_of_debug);
        }
    };
    for (const echo::server& server : echo_servers)
        result.cases.push_back(server.name);
    result.candidates.push_back({"creel", false, [](std::size_t which, const effort& e) -> values {
                                     return {echo_cpu(echo_servers[which], e.quick)};
                                 }});
    return result;
}

const registration debug_figures{make_debug};
const registration echo_figures{make_echo};

} // namespace
} // namespace creel::bench
