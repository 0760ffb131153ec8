#pragma once

// One measurement in a process of its own, which is this program run again with --alone: for what
// a process's past would falsify (resident memory), and for what another program counts
// (instructions). The process then calls `candidate::alone` of the measurement with that id.

#include "harness.hpp"

#include <cstdint>
#include <string>

namespace creel::bench {

// The values that `alone` returned there. Throws: std::runtime_error when it failed.
values measure_alone(const std::string& id, std::uint64_t rounds);

// Counts the user-space instructions of the process from its start until `alone` said so, which
// then ends it (see end_of_counting). By valgrind's callgrind, since virtual machines like ours
// have no instruction counter; the same program gives the same count, whatever else runs.
// Throws: std::runtime_error when valgrind is missing or the measurement failed.
std::uint64_t count_instructions_alone(const std::string& id, std::uint64_t rounds);

// For `alone` under callgrind: what comes after is not counted, because it does not happen.
[[noreturn]] void end_of_counting();

} // namespace creel::bench
