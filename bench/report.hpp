#pragma once

// The results at the end of a run: tables for people, JSON for tools, and the context without which
// a figure means nothing later.

#include "harness.hpp"
#include "statistics.hpp"

#include <iosfwd>
#include <string>
#include <utility>
#include <vector>

namespace creel::bench {

struct result {
    std::string candidate;
    std::string case_name;
    std::vector<summary> figures;              // in the family's order
    std::vector<std::vector<double>> by_round; // of each figure; NaN: the round failed
    bool control = false;
    int rounds = 0; // rounds that gave values
    int failed = 0; // rounds that failed
};

struct family_results {
    family of;
    std::vector<result> results;     // case by case, candidates in the family's order
    std::vector<std::string> failed; // "family/candidate/case" that failed in each round
};

// "echo/creel/cpu/connections:64/bytes:64", without the empty parts.
std::string id_of(const std::string& family, const std::string& candidate,
                  const std::string& figure, const std::string& case_name);

// Four significant digits and a unit: "4.061us", "240.1k".
std::string short_value(double value, const std::string& unit);

// Prints each id with median, min and max, then each case with the ratios to its best control. Both
// tables mark failures.
void print_tables(std::ostream& out, const family_results& results);

void print_verdict_heading(std::ostream& out);

void print_verdict_heading(std::ostream& out);

// Prints a line that says whether a figure of `mine` is at most `most` times that of `other`, by
// the median of the ratios within a round. It also has the range of these ratios, and the ratio of
// the medians.
void print_verdict(std::ostream& out, const family_results& results, const result& mine,
                   const result& other, std::size_t figure, double most);

// Keys and JSON values (text is quoted already), in the order in which they are written.
using context = std::vector<std::pair<std::string, std::string>>;
context describe_context(const std::string& command, int rounds);
std::string json_quoted(const std::string& text);

void write_json(std::ostream& out, const context& about, const std::vector<family_results>& all);

} // namespace creel::bench
