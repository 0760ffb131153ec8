// The echo family: the CPU time that a request costs a TCP echo server, and how long the request
// takes. Server and client are processes of their own, each with one thread pinned to its own core.
// This process only starts them and waits. The figures are explained in bench/README.md.

#include "harness.hpp"

#include "echo/measurement.hpp"
#include "echo/verdicts.hpp"

#include <chrono>

namespace creel::bench::echo {
namespace {

using namespace std::chrono_literals;

struct shape {
    unsigned connections;
    unsigned bytes;
};

constexpr shape shapes[] = {{1, 64},    {64, 64},    {512, 64},    {most_connections, 64},
                            {1, 16384}, {64, 16384}, {512, 16384}, {most_connections, most_bytes}};

family make_family() {
    family result;
    result.name = "echo";
    result.figures = {
        {"cpu", "ns"}, {"rps", "1/s", true}, {"p50", "ns"}, {"p99", "ns"}, {"p999", "ns"}};
    for (const auto& [connections, bytes] : shapes)
        result.cases.push_back(case_of(connections, bytes));
    result.conclude = print_verdicts;
    for (const auto& candidate : servers())
        result.candidates.push_back(
            {candidate.name, candidate.control,
             [candidate](std::size_t case_index, const effort& effort) -> values {
                 const auto& [connections, bytes] = shapes[case_index];
                 const load wanted{connections, bytes, effort.quick ? 100ms : 300ms,
                                   effort.quick ? 300ms : 1000ms};
                 const auto seen = measure(candidate, wanted);
                 const auto requests = static_cast<double>(seen.requests);
                 return {seen.server_cpu_seconds * 1e9 / requests, requests / seen.seconds,
                         seen.p50, seen.p99, seen.p999};
             }});
    return result;
}

const registration here{make_family};

} // namespace
} // namespace creel::bench::echo
