// When a thread ends, Boost's part of it goes: a thread_local, which exit() destroys on the main
// thread before any global object. From then on no run can be on that thread.
#pragma once

namespace creel::detail {

// To be called before each run on this thread. Aborts with a message when the thread ends inside
// one, which is exit() inside io::run: Boost would wait for ever for the carriers.
void watch_end_of_thread() noexcept;

// Whether a run can still be on this thread. Makes Boost's part of it, the first time.
[[nodiscard]] bool thread_can_run();

} // namespace creel::detail
