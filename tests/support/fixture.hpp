// Runs a test body under a scheduler with a virtual clock, and checks that it leaves nothing.
#pragma once

#include "support/manual_poller.hpp"

#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <utility>

namespace creel::test {

// What a run left behind; all zero after every test.
struct leftovers {
    std::uint64_t unfinished_tasks = 0;
    std::uint64_t armed_timers = 0;
    friend bool operator==(const leftovers&, const leftovers&) = default;
};

// f may take the manual_poller&. Throws what f throws, after the leftovers were looked at.
template <typename F>
leftovers run_virtually(F&& f, creel::scheduler_options options = {},
                        manual_poller::other_threads others = manual_poller::other_threads::no) {
    manual_poller outside{others};
    return creel::run_scheduler(outside, options, [&] {
        creel::this_fiber::yield(); // the first switch of a run polls; from here on the test
                                    // decides
        if constexpr (std::is_invocable_v<F&, manual_poller&>)
            f(outside);
        else
            f();
        const auto s = creel::statistics();
        return leftovers{s.tasks_spawned - s.tasks_finished, s.timers_armed};
    });
}

inline constexpr leftovers nothing{};

} // namespace creel::test
