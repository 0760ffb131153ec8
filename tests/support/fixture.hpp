// Runs the body of a test under a scheduler with a virtual clock, and checks that nothing is left.
#pragma once

#include "support/manual_poller.hpp"
#include "support/test_body.hpp"

#include <creel/fibers/scheduler.hpp>

#include <cstdint>

namespace creel::test {

// The objects that a run has left. All are zero after each test.
struct leftovers {
    std::uint64_t unfinished_tasks = 0;
    std::uint64_t armed_timers = 0;
    friend bool operator==(const leftovers&, const leftovers&) = default;
};

inline constexpr leftovers nothing{};

// f may take the manual_poller&. Throws what f throws.
leftovers run_virtually(test_body<manual_poller> f, creel::scheduler_options options = {},
                        manual_poller::other_threads others = manual_poller::other_threads::no);

} // namespace creel::test
