// The counters of the runs that one scheduler object has had, one after another, for a thread that
// asks all runs: see process_statistics.hpp. The object's number is that of the runs.
#pragma once

#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/statistics_source.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <span>

namespace creel::detail {

class scheduler;

// What one run has counted, or the sums over some.
struct counted {
    // Adds counters to counters; a gauge and a peak are of `now`.
    void add_counters_of(const counted& now, std::span<const statistic> names) noexcept;

    scheduler_statistics work{};
    std::uint64_t tasks_alive = 0;
    std::array<std::uint64_t, statistics_source::most> more{};
};

// Guarded by the mutex of the list of runs.
struct run_counters {
    // The beginning and the end of a run, on its thread, with the mutex held.
    static void begin(scheduler& s) noexcept;
    static void end(scheduler& s) noexcept;
    // In a forked child: the child counts from zero.
    static void forget_all() noexcept;
    // Each scheduler that has had a run, by number. With the mutex held.
    static void for_each(const std::function<void(scheduler&)>& visit);

    // What the run has counted until now. Threads: the run's.
    [[nodiscard]] static counted of_run(const scheduler& s) noexcept;
    // The run that is on, or none, with the runs before it.
    [[nodiscard]] counted with_past(const counted& now) const noexcept;

    unsigned number = 0; // 0: it has had no run
    bool is_on = false;  // it has one now
    counted past{};      // of the runs that have ended
    counted last_told{}; // of the run that is on, when it was last asked and has answered
    std::span<const statistic> more_names{}; // of the last run
    std::array<char, 16> thread_name{};      // of its thread, when it began
    scheduler* next = nullptr;
};

} // namespace creel::detail
