#pragma once

// The measured window of a program under load.

#include "../../statistics.hpp"
#include "expect.hpp"
#include "job.hpp"
#include "program.hpp"

#include <chrono>
#include <cstdint>
#include <utility>

namespace creel::bench::same_job {

// What the fibers of a driver count while they load the program.
struct progress {
    std::uint64_t operations = 0;
    latency_histogram latencies{};
};

// Warms up, lets the window pass, and fills in the figures of the window. Parks, so only inside
// io::run. Throws: std::runtime_error if nothing happened in the window.
void measure_window(const program& running, const load& wanted, progress& all, measurement& seen);

// within() for the part of a driver that holds the window.
template <class Part>
auto within_measurement(const load& wanted, Part&& part) {
    return within(patience + wanted.warm_up + wanted.window, "the measurement",
                  std::forward<Part>(part));
}

inline double in_nanoseconds(std::chrono::duration<double, std::nano> time) {
    return time.count();
}

} // namespace creel::bench::same_job
