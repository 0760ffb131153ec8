#pragma once

// What is shown and written at the end: tables for people, JSON for tools, and the context that
// makes a figure worth something later.

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
    std::vector<summary> figures; // in the family's order
    bool control = false;
    std::size_t rounds = 0; // that gave values,
    int failed = 0;         // and that did not
};

struct family_results {
    family of;
    std::vector<result> results;     // case by case, candidates in the family's order
    std::vector<std::string> failed; // "family/candidate/case" without any round that gave values
};

// "echo/creel/cpu/connections:64/bytes:64"; empty parts are left out.
std::string id_of(const std::string& family, const std::string& candidate,
                  const std::string& figure, const std::string& case_name);

// Four significant digits and a unit: "4.061us", "240.1k".
std::string short_value(double value, const std::string& unit);

// Every id with median, min and max, then every case with the ratios to its best control; what has
// failed is marked in both.
void print_tables(std::ostream& out, const family_results& results);

// Key and JSON value (already quoted where it is text), in the order they are written.
using context = std::vector<std::pair<std::string, std::string>>;
context describe_context(const std::string& command, int rounds);
std::string json_quoted(const std::string& text);

void write_json(std::ostream& out, const context& about, const std::vector<family_results>& all);

} // namespace creel::bench
