#pragma once

// The frame every benchmark family runs in. A family is a list of candidates measured on a list
// of cases; one measurement gives one value per figure. Candidates are interleaved within each
// round, in an order that rotates from round to round, because the machine drifts by 10-30%: a
// comparison counts only with both sides in one run.
//
//     const bench::registration here{[] {
//         bench::family family{.name = "hash", .figures = {{"", "ns"}}, .cases = {"bytes:64"}};
//         family.candidates.push_back({"fnv", true, [](std::size_t, const bench::effort& effort) {
//             return bench::values{measure_fnv(effort.quick)}; }});
//         return family; }};
//
// In-process benchmarks counted in ns per operation are easier to write with micro.hpp.

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

// How long a measurement may take; the family decides what it means.
struct effort {
    bool quick = false;
};

// One value per figure, in the family's order.
using values = std::vector<double>;

struct candidate {
    std::string name;
    bool control = false; // the same work done without creel; ratios are against the best control
    // Measures one case once. What it throws counts as a failure of this measurement alone.
    std::function<values(std::size_t case_index, const effort&)> measure;
    // For families that use alone.hpp: the part that runs in a process of its own.
    std::function<values(std::size_t case_index, std::uint64_t rounds)> alone = {};
    // Which cases it has; empty: all.
    std::function<bool(std::size_t case_index)> has_case = {};
};

struct family_results; // see report.hpp

struct family {
    std::string name;
    std::vector<figure> figures;
    std::vector<std::string> cases; // "connections:64/bytes:64"; an empty one is left out of the id
    std::vector<candidate> candidates;
    int rounds = 9;
    int quick_rounds = 3;
    bool instructions = false; // needs valgrind: taken only with --instructions
    // Prints, below the tables, what else a reader should see at once; may be empty.
    std::function<void(std::ostream&, const family_results&)> conclude = {};
};

// Adds a family before main starts, so that adding a source file is all a new family needs. Two
// may share a name, if their cases differ: each counts in its own unit.
class registration {
public:
    explicit registration(std::function<family()> make);
};

// Runs the command line (see --help); returns the exit status: 0, 1 when a measurement failed,
// 2 when the command line made no sense.
int run(int argc, char** argv);

} // namespace creel::bench
