// The counters of all runs of the process, as a value and as text for Prometheus.
//
//     creel::write_prometheus(std::cout);
//
//     # HELP creel_switches_total Switches from one fiber to another.
//     # TYPE creel_switches_total counter
//     creel_switches_total{run="1",thread="server"} 40213
//
// io::run serves the same at its inspect socket: see run_options::inspect.
#pragma once

#include <creel/fibers/build_check.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/statistics_source.hpp>
#include <creel/fibers/time.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <span>
#include <string>
#include <vector>

namespace creel {

// One run that is on, together with the runs before it that had the same number; or the runs that
// have had a number which no run has now. A run gets the number of one of its kind (of io::run, or
// of run_scheduler()) that has ended, if there is one. So the counters of a number never go back,
// and a process that begins runs again and again has few numbers. What is there now (tasks, fibers,
// timers) is of the run that is on.
struct run_statistics {
    unsigned number = 0;       // from 1
    bool is_on = false;        // a run has the number now
    bool is_stalled = false;   // it has not answered: these are the values of its last answer
    int thread_id = 0;         // gettid(2); 0: no run has the number now
    std::string thread_name{}; // when the run began
    scheduler_statistics work{};
    std::uint64_t tasks_alive = 0;
    std::uint64_t stalls = 0; // that the watchdog has seen: see stall_watch.hpp
    duration longest_stall{}; // of those that have ended
    // Of the entry point, for io::run its ring: a name and a value for each.
    std::span<const statistic> more_names{};
    std::vector<std::uint64_t> more{};
};

struct process_statistics {
    std::size_t runs_on = 0;
    std::size_t runs_stalled = 0;
    scheduler_statistics all{}; // the sums over all runs, ended ones included; peak_tasks: the most
    std::uint64_t tasks_alive = 0;
    std::uint64_t stalls = 0;
    duration longest_stall{};
    std::vector<run_statistics> runs{}; // by number
};

// Asks all runs. Each answers on its own thread at its next poll, or behind what others have asked
// of it, and makes progress meanwhile. A run that makes none for as long as `patience` is told as
// stalled, with the values of its last answer and the tasks and fibers of its last poll. A child of
// fork() counts from zero.
// Parks: until the answers are there; a plain thread blocks. Cancel: no. Threads: any; not in a
// handler of a signal. Throws: std::bad_alloc; std::system_error if a fiber's call gets no thread.
// Cost: some microseconds for each run; for a fiber a thread, some 20 us.
[[nodiscard]] process_statistics
all_statistics(saturating_duration patience = std::chrono::milliseconds{100});

// Writes all_statistics() in the text format of Prometheus, version 0.0.4.
// Parks, Cancel, Threads, Throws, Cost: as all_statistics(); it also throws what `out` throws.
void write_prometheus(std::ostream& out);
void write_prometheus(std::ostream& out, const process_statistics& told);

} // namespace creel
