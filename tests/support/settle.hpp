// Lets the other fibers of the thread run until each of them waits.
#pragma once

namespace creel::test {

// Runs a few rounds of the ready queue: too few switches for the scheduler to poll, so that nothing
// comes from outside. Threads: that of a fiber.
void settle();

// Does the same until the scheduler has polled: operations are submitted to the kernel, and its
// completions are delivered. Threads: that of a fiber.
void settle_and_poll();

} // namespace creel::test
