// The counters that an entry point adds to those of its runs: io::run adds those of its ring. They
// are told with the run's own by <creel/fibers/process_statistics.hpp>.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace creel {

struct statistic {
    const char* name;        // as Prometheus wants it: "creel_ring_enters_total"
    const char* help;        // a sentence
    bool is_counter = false; // it only rises, and its name ends in _total; else it is a gauge
};

// A base of what reads them, which must outlive the run.
struct statistics_source {
    static constexpr std::size_t most = 32;

    // At most `most`. They outlive the process.
    std::span<const statistic> names;
    // Writes a value for each name. Threads: the run's, between two of its fibers.
    void (*read)(const statistics_source& self, std::span<std::uint64_t> values) noexcept;
};

} // namespace creel
