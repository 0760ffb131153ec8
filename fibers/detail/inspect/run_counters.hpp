// The counters of the runs that have had one number, one after another, for a thread that asks all
// runs: see process_statistics.hpp. All runs of a number are of one kind of entry point, so that
// their counters have the same names.
#pragma once

#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/statistics_source.hpp>
#include <creel/fibers/time.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <span>

namespace creel::detail {

class scheduler;

// What the stall watchdog has seen of a run: see stall_sampler.hpp.
struct stall_counts {
    std::uint64_t stalls = 0;
    duration longest{}; // of those that have ended
};

// What one run has counted, or the sums over some.
struct counted {
    // Adds counters to counters; a gauge and a peak are of `now`.
    void add_counters_of(const counted& now, std::span<const statistic> names) noexcept;

    scheduler_statistics work{};
    std::uint64_t tasks_alive = 0;
    std::array<std::uint64_t, statistics_source::most> more{};
    std::uint64_t answer = 0; // rises with each answer of the run; 0: it has given none
};

// Guarded by the mutex of the list of runs. It is immortal, as a scheduler is.
struct run_counters {
    // Before a run begins, where it may throw. Threads: the run's. Throws: std::bad_alloc.
    static void prepare(scheduler& s);
    // The beginning and the end of a run, on its thread, with the mutex held. It gets the lowest
    // number of its kind that no run has.
    static void begin(scheduler& s) noexcept;
    static void end(scheduler& s) noexcept;
    // In a forked child: the child counts from zero.
    static void forget_all() noexcept;
    // Those of each number that a run has had, the lowest first. With the mutex held.
    static void for_each(const std::function<void(run_counters&)>& visit);

    // What the run has counted until now. Threads: the run's.
    [[nodiscard]] static counted of_run(scheduler& s) noexcept;
    // Keeps an answer of the run that is on, unless it has given a newer one.
    void keep(const counted& answer) noexcept;
    // Of the run that is on, by its last answer, or of none, with the runs before it.
    [[nodiscard]] counted with_past() const noexcept;
    [[nodiscard]] stall_counts stalls() const noexcept;
    [[nodiscard]] bool is_on() const noexcept { return home != nullptr; }

    unsigned number = 0;       // 0: no run has had it
    scheduler* home = nullptr; // of the run that is on; null: there is none
    std::uint64_t runs = 0;    // that have begun
    counted past{};            // of the runs that have ended, as the next
    stall_counts past_stalls{};
    counted last_told{}; // of the run that is on, when it was last asked and has answered
    std::span<const statistic> more_names{};
    std::array<char, 16> thread_name{}; // of the last run's, when it began
    std::uint64_t answers = 0;          // the run's alone
    run_counters* next = nullptr;
};

} // namespace creel::detail
