// When a thread ends, Boost's part of the thread is destroyed. It is a thread_local, which exit()
// destroys on the main thread before any global object. From then on that thread can have no run.
#pragma once

namespace creel::detail {

// Must be called before each run on this thread. If the thread then ends inside a run, which means
// exit() inside io::run, the process aborts with a message: Boost would wait for the carriers
// forever.
void watch_end_of_thread() noexcept;

// Whether this thread can still have a run. The first call makes Boost's part of the thread.
[[nodiscard]] bool thread_can_run();

} // namespace creel::detail
