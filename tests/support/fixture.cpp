#include "support/fixture.hpp"

#include <creel/fibers/this_fiber.hpp>

namespace creel::test {

leftovers run_virtually(test_body<manual_poller> f, creel::scheduler_options options,
                        manual_poller::other_threads others) {
    manual_poller outside{others};
    return creel::run_scheduler(outside, options, [&] {
        creel::this_fiber::yield(); // the first switch of a run polls; after it the test decides
        f(outside);
        const auto s = creel::statistics();
        return leftovers{s.tasks_spawned - s.tasks_finished, s.timers_armed};
    });
}

} // namespace creel::test
