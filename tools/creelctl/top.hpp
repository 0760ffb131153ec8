// creelctl top: the runs of a process and its largest groups of fibers, again and again.
#pragma once

#include <chrono>
#include <string>

namespace creelctl {

struct top_options {
    std::chrono::milliseconds delay = std::chrono::seconds{1};
    unsigned times = 0;    // how often it looks; 0: until it is told to end
    bool is_plain = false; // writes lines, and needs no terminal
};

// Returns the exit code. Throws: failure.
[[nodiscard]] int top(const std::string& address, const top_options& options);

} // namespace creelctl
