#pragma once

// The command line of the benchmarks.

#include <cstdint>
#include <string>
#include <vector>

namespace creel::bench {

// A family by name, with the candidates to keep. An empty list keeps all of them.
struct selection {
    std::string family;
    std::vector<std::string> candidates;
};

struct options {
    std::vector<selection> selections; // empty: every family
    std::vector<std::string> only;     // each has alternatives separated by commas; all must match
    std::string json;                  // empty: no file
    std::string command;               // as typed, for the context
    int rounds = 0;                    // 0: the family's own number
    bool quick = false;
    bool list = false;
    bool help = false;
    bool instructions = false; // count instructions too, which needs valgrind
    std::string alone;         // the id with which the program runs itself: see alone.hpp
    std::uint64_t alone_rounds = 0;

    [[nodiscard]] bool wants_family(const std::string& family) const;
    // `id` is "family/candidate/case".
    [[nodiscard]] bool wants(const std::string& family, const std::string& candidate,
                             const std::string& id) const;
};

// Throws: std::invalid_argument with a sentence for the user.
options parse_options(int argc, char** argv);

extern const char* const usage;

} // namespace creel::bench
