// The runs of the process, for a thread that asks all of them.
//
// A run is listed from the end of scheduler::enter() to the beginning of scheduler::leave(). A node
// that is posted to a listed run is delivered: the run unlists itself under the mutex, and delivers
// all that was posted until then.
#pragma once

#include <functional>

namespace creel {
struct stall_watch_options;
}

namespace creel::detail {

class scheduler;
struct run_counters;

// Threads: the run's, which has called run_counters::prepare().
void list_run(scheduler& s) noexcept;
void unlist_run(scheduler& s) noexcept;
// From now on the stall watchdog looks at the run; null: it does not. When this has returned
// nothing reads what was given before. Threads: the run's.
void watch_run(scheduler& s, const stall_watch_options* how) noexcept;

// Calls visit for each listed run, with the mutex held: no run can end meanwhile. `visit` may post
// to the run's inbox and read what the run shows to other threads. Threads: any.
void for_each_run(const std::function<void(scheduler&)>& visit);

// The same for the counters of each number that a run has had, also if no run has it now.
void for_each_counted_run(const std::function<void(run_counters&)>& visit);

} // namespace creel::detail
