// The counters of a process at one moment, read from its text for Prometheus.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>

namespace creelctl {

struct run_counters {
    std::string thread{};
    std::map<std::string, double> values{}; // by the metric's name, from 0 to 10^18; no histogram

    [[nodiscard]] double operator[](const std::string& metric) const;
    [[nodiscard]] bool is_on() const { return values.contains("creel_run_stalled"); }
};

struct counters {
    [[nodiscard]] static counters parse(std::string_view text);

    std::chrono::steady_clock::time_point taken = std::chrono::steady_clock::now();
    std::map<int, run_counters> runs{}; // by number
};

} // namespace creelctl
