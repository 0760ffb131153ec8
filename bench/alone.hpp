#pragma once

// One measurement in a process of its own, which is this program run again with --alone. Two
// figures need that: resident memory, which depends on all that the process did before, and
// instructions, which another program counts. The process calls `candidate::alone` of the
// measurement with this id.

#include "harness.hpp"

#include <cstdint>
#include <string>

namespace creel::bench {

// Returns the values that `alone` returned there. Throws: std::runtime_error when it failed.
values measure_alone(const std::string& id, std::uint64_t rounds);

// Counts the user-space instructions of the process from its start until `alone` calls
// end_of_counting(), which ends the process. valgrind's callgrind counts them, because virtual
// machines like ours have no instruction counter. The same program gives the same count, and other
// programs that run do not change it. Throws: std::runtime_error when valgrind is missing or the
// measurement failed.
std::uint64_t count_instructions_alone(const std::string& id, std::uint64_t rounds);

// For `alone` under callgrind: ends the process, so that nothing after this call is counted.
[[noreturn]] void end_of_counting();

} // namespace creel::bench
