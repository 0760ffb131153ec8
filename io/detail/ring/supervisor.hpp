// A function that a ring calls for the run that it serves. It looks for signals, and for the limit
// of a shutdown.
#pragma once

#include <creel/fibers/time.hpp>

namespace creel::io::detail {

struct supervisor {
    // After each wake by another thread; while `watching`, also around each poll and wait. Runs no
    // user code.
    void (*attend)(supervisor&) noexcept = nullptr;
    bool watching = false;
    time_point deadline = time_point::max(); // a wait of the ring lasts no longer
};

} // namespace creel::io::detail
