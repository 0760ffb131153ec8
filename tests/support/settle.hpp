// Lets the other fibers of the thread go as far as they can.
#pragma once

namespace creel::test {

// A few rounds of the ready queue: fewer switches than make the scheduler poll, so that what is
// outside stays as it is. Threads: a fiber's.
void settle();

// The same until the scheduler has polled: what was submitted is in the kernel's hands, and what
// the kernel has completed is delivered. Threads: a fiber's.
void settle_and_poll();

} // namespace creel::test
