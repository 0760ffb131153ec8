#pragma once

// The jobs that can be checked and measured.

#include "job.hpp"

#include <array>

namespace creel::bench::same_job {

inline constexpr std::array jobs{&echo, &fanout, &producer_consumer, &crawler, &chat};

} // namespace creel::bench::same_job
