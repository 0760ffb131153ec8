#pragma once

// The frame in which each benchmark family runs. A family is a list of candidates that are measured
// on a list of cases; a measurement gives one value per figure. Candidates are interleaved within
// each round, in an order that rotates from round to round, because the machine drifts by 10-30%: a
// comparison is only valid if both sides were measured in one run.
//
//     const bench::registration here{[] {
//         bench::family family{.name = "hash", .figures = {{"", "ns"}}, .cases = {"bytes:64"}};
//         family.candidates.push_back({"fnv", true, [](std::size_t, const bench::effort& effort) {
//             return bench::values{measure_fnv(effort.quick)}; }});
//         return family; }};
//
// Benchmarks inside one process, in ns per operation, are easier to write with micro.hpp.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <string>
#include <vector>

namespace creel::bench {

// A figure with an empty name is left out of the id: "family/candidate/case".
struct figure {
    std::string name;
    std::string unit;
    bool more_is_better = false;
};

// How long a measurement may take. Each family decides what quick means.
struct effort {
    bool quick = false;
};

// One value per figure, in the family's order.
using values = std::vector<double>;

struct candidate {
    std::string name;
    bool control = false; // the same work done without creel; ratios are against the best control
    // Measures one case once. If it throws, only this measurement has failed.
    std::function<values(std::size_t case_index, const effort&)> measure;
    // The part that runs in a process of its own, for families that use alone.hpp.
    std::function<values(std::size_t case_index, std::uint64_t rounds)> alone = {};
    // Tells which cases the candidate has. If it is empty, the candidate has all of them.
    std::function<bool(std::size_t case_index)> has_case = {};
};

struct family_results; // see report.hpp

struct family {
    std::string name;
    std::vector<figure> figures;
    std::vector<std::string> cases; // "connections:64/bytes:64"; the id leaves out an empty case
    std::vector<candidate> candidates;
    int rounds = 9;
    int quick_rounds = 3;
    bool instructions = false; // needs valgrind: measured only with --instructions
    // Prints more below the tables; may be empty.
    std::function<void(std::ostream&, const family_results&)> conclude = {};
};

// Adds a family before main starts, so that a new family needs only a new source file. Two families
// may have the same name if their cases differ: each has its own unit.
class registration {
public:
    explicit registration(std::function<family()> make);
};

// Runs the command line (see --help). Returns the exit status: 0; 1 when a measurement failed; 2
// when the command line is wrong.
int run(int argc, char** argv);

} // namespace creel::bench
