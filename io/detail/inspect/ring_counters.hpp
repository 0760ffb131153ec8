// The counters of a ring among those of its run: see process_statistics.hpp.
#pragma once

#include <creel/fibers/statistics_source.hpp>
#include <creel/io/detail/ring/ring.hpp>

#include <cstdint>
#include <span>

namespace creel::io::detail {

struct ring_counters : statistics_source {
    explicit ring_counters(const ring& r) noexcept;

    const ring& of;
};

} // namespace creel::io::detail
