// The same_job family: the jobs of bench/same_job/README.md, in fibers and in coroutines. A program
// runs on the first allowed core and its driver on the second. This process starts the driver and
// waits. The figures are explained in bench/README.md.

#include "drivers/job.hpp"

#include "../child.hpp"
#include "../harness.hpp"
#include "../report.hpp"

#include <array>
#include <chrono>
#include <cstddef>
#include <filesystem>
#include <map>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>

#include <unistd.h>

namespace creel::bench::same_job {
namespace {

using namespace std::chrono_literals;

constexpr unsigned usual_tasks = 64;
constexpr unsigned most_tasks = 2000;

struct shape {
    const job* of;
    unsigned tasks;
};

constexpr std::array shapes{
    shape{&echo_job, usual_tasks},    shape{&echo_job, 512},
    shape{&echo_job, most_tasks},     shape{&fanout_job, usual_tasks},
    shape{&fanout_job, 512},          shape{&fanout_job, most_tasks},
    shape{&crawler_job, usual_tasks}, shape{&crawler_job, 512},
    shape{&crawler_job, most_tasks},  shape{&producer_consumer_job, usual_tasks},
    shape{&chat_job, usual_tasks}};

std::string case_of(const shape& one) {
    std::string name = one.of->name;
    return one.tasks == usual_tasks ? name : name + ":" + std::to_string(one.tasks);
}

// Indexes of the family's figures.
enum : std::size_t { cpu = 0, p99 = 3 };

// build/<preset>/bench/same_job/<style>/<job>, beside this program.
std::string program_of(const std::string& style, const job& wanted) {
    const auto here = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    const auto path = here / "same_job" / style / wanted.name;
    if (access(path.c_str(), X_OK) != 0)
        throw std::runtime_error(path.string() + " is missing: build the target same_job_" + style +
                                 "_" + wanted.name);
    return path.string();
}

measurement drive(const shape& wanted, const std::string& program, const load& how) {
    const child driver{1, [&](int pipe) {
                           const auto seen = wanted.of->measure(program, how);
                           if (write(pipe, &seen, sizeof seen) != sizeof seen)
                               throw std::runtime_error("cannot report");
                           pause();
                       }};
    measurement result{};
    const auto limit = how.warm_up + how.window + 60s;
    driver.read_exact(
        &result, sizeof result,
        static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(limit).count()));
    if (!(result.operations > 0) || !(result.seconds > 0))
        throw std::runtime_error("nothing happened in the measured window");
    return result;
}

// Counting costs time, so it has a run of its own: one for all rounds, which would count the same.
double count_allocations(const shape& wanted, const std::string& program, load how) {
    static std::map<std::string, double> known;
    const auto [place, is_new] = known.try_emplace(program + " " + case_of(wanted));
    if (is_new) {
        how.window /= 2;
        how.count_allocations = true;
        try {
            const auto counted = drive(wanted, program, how);
            place->second = counted.allocations / counted.operations;
        } catch (...) {
            known.erase(place);
            throw;
        }
    }
    return place->second;
}

values measure(const std::string& style, const shape& wanted, const effort& effort) {
    const auto program = program_of(style, *wanted.of);
    const load how{wanted.tasks, effort.quick ? 100ms : 300ms, effort.quick ? 300ms : 1000ms};
    const auto seen = drive(wanted, program, how);
    return {seen.cpu_seconds * 1e9 / seen.operations,
            seen.operations / seen.seconds,
            seen.p50,
            seen.p99,
            seen.p999,
            count_allocations(wanted, program, how),
            seen.idle_bytes,
            seen.busy_bytes,
            seen.start_nanoseconds};
}

// What creel is to reach: a figure is at most `most` times that of another candidate.
struct wish {
    std::size_t figure;
    const char* candidate;
    double most;
};

void print_wishes(std::ostream& out, const family_results& all, const shape& of) {
    const auto find = [&](std::string_view candidate) -> const result* {
        for (const auto& one : all.results)
            if (one.candidate == candidate && one.case_name == case_of(of))
                return &one;
        return nullptr;
    };
    const result* const mine = find("creel");
    if (mine == nullptr)
        return;
    const std::string_view name = of.of->name;
    const bool many = of.tasks == most_tasks;
    const double most_cpu = many || name == "producer_consumer" || name == "chat" ? 1.10 : 1.03;
    for (const auto& [figure, candidate, most] :
         {wish{cpu, "coroutine_uring", most_cpu}, wish{cpu, "asio_coroutine", 0.9},
          wish{cpu, "asio_coroutine_uring", 0.9}, wish{p99, "coroutine_uring", 1.25}})
        if (const result* const other = find(candidate); other != nullptr)
            print_verdict(out, all, *mine, *other, figure, most);
}

void print_verdicts(std::ostream& out, const family_results& all) {
    print_verdict_heading(out);
    for (const auto& one : shapes)
        print_wishes(out, all, one);
}

family make_family() {
    family result;
    result.name = "same_job";
    result.figures = {{"cpu", "ns"},           {"rate", "1/s", true},   {"p50", "ns"},
                      {"p99", "ns"},           {"p999", "ns"},          {"allocations", "1/op"},
                      {"idle_memory", "byte"}, {"busy_memory", "byte"}, {"start", "ns"}};
    for (const auto& one : shapes)
        result.cases.push_back(case_of(one));
    for (const std::string style :
         {"creel", "coroutine_uring", "asio_coroutine", "asio_coroutine_uring"})
        result.candidates.push_back(
            {style, style != "creel", [style](std::size_t case_index, const effort& effort) {
                 return measure(style, shapes[case_index], effort);
             }});
    result.conclude = print_verdicts;
    return result;
}

const registration here{make_family};

} // namespace
} // namespace creel::bench::same_job
