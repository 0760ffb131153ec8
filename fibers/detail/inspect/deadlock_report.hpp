// What is told of fibers that wait for each other.
#pragma once

#include <creel/fibers/time.hpp>

#include <string>
#include <vector>

namespace creel::detail {

struct fiber_record;
class scheduler;

struct deadlock_report {
    std::string summary{}; // a line for each fiber
    std::string text{};    // with the backtraces
};

// Of fibers that wait for each other: each for the next, and the last for the first. Blocks the
// thread while another one looks up the names of the code. Threads: the run's, between two
// switches. Throws: std::bad_alloc.
[[nodiscard]] deadlock_report report_of(const std::vector<const fiber_record*>& cycle,
                                        time_point now);

// Of a run in which every fiber waits, perhaps but for tasks in the background, and nothing can
// wake one. As report_of.
[[nodiscard]] deadlock_report report_of_all(scheduler& run, bool but_background);

} // namespace creel::detail
