// What a run shows to other threads at any time: which thread it is on, how many fibers it had at
// its last poll, and how often it has stalled. live_runs.hpp lists the runs of the process.
#pragma once

#include <creel/fibers/detail/inspect/run_counters.hpp>
#include <creel/fibers/time.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace creel {
struct stall_watch_options;
}

namespace creel::detail {

class scheduler;
struct fiber_record;
struct run_snapshot;

// Two that are equal show that the run has neither switched nor polled in between.
struct run_progress {
    time_point last_poll{};
    std::uint64_t switches = 0;
    int pulse = 0;        // changes also with each task that a carrier takes without a switch
    bool sleeps = false;  // it waits for events
    bool reports = false; // creel holds it up to write a report
    const fiber_record* running = nullptr;

    // True if no fiber is to be accused although nothing moves.
    [[nodiscard]] bool is_excused() const noexcept { return sleeps || reports; }

    friend bool operator==(const run_progress&, const run_progress&) = default;
};

class live_run {
public:
    // At a poll. Threads: the run's.
    void tell(time_point now, std::uint64_t tasks, std::size_t fibers,
              std::size_t idle_fibers) noexcept {
        last_poll_.store(now.time_since_epoch().count(), std::memory_order_relaxed);
        tasks_.store(tasks, std::memory_order_relaxed); // no other data depends on the counts
        fibers_.store(fibers, std::memory_order_relaxed);
        idle_fibers_.store(idle_fibers, std::memory_order_relaxed);
    }

    // Threads: any.
    void copy_to(run_snapshot& s) const;
    [[nodiscard]] int thread_id() const noexcept {
        return thread_id_.load(std::memory_order_relaxed);
    }
    [[nodiscard]] time_point last_poll() const noexcept {
        return time_point{duration{last_poll_.load(std::memory_order_relaxed)}};
    }
    [[nodiscard]] stall_counts stalls() const noexcept {
        return {stalls_.load(std::memory_order_relaxed),
                duration{longest_stall_.load(std::memory_order_relaxed)}};
    }
    // Null: the run is not watched. For the visitor of for_each_run().
    [[nodiscard]] const stall_watch_options* watched() const noexcept { return watched_; }

    // While creel makes a report on the run's thread, and no fiber is to be accused of that time.
    // Threads: the run's; reports(): any.
    void begin_report() noexcept { reports_.fetch_add(1, std::memory_order_relaxed); }
    void end_report() noexcept { reports_.fetch_sub(1, std::memory_order_relaxed); }
    [[nodiscard]] bool reports() const noexcept {
        return reports_.load(std::memory_order_relaxed) != 0;
    }

    // Threads: the watchdog's.
    void stalled(std::uint64_t times, duration length) noexcept {
        stalls_.fetch_add(times, std::memory_order_relaxed);
        if (length.count() > longest_stall_.load(std::memory_order_relaxed))
            longest_stall_.store(length.count(), std::memory_order_relaxed);
    }

    // Those of the run's number, from its beginning on; guarded by the mutex of the list.
    run_counters* counters = nullptr;
    run_counters* spare_counters = nullptr; // the run's: for a number that no run has had yet

private:
    friend void list_run(scheduler& s) noexcept;
    friend void unlist_run(scheduler& s) noexcept;
    friend void watch_run(scheduler& s, const stall_watch_options* how) noexcept;
    friend void for_each_run(const std::function<void(scheduler&)>& visit);

    std::atomic<time_point::rep> last_poll_{0}; // by the run's clock
    std::atomic<std::uint64_t> tasks_{0};
    std::atomic<std::size_t> fibers_{0};
    std::atomic<std::size_t> idle_fibers_{0};
    std::atomic<int> thread_id_{0}; // gettid(2)
    std::atomic<int> reports_{0};
    std::atomic<std::uint64_t> stalls_{0};
    std::atomic<duration::rep> longest_stall_{0};
    const stall_watch_options* watched_ = nullptr; // guarded by the mutex of the list, as the next
    scheduler* next_ = nullptr;
    scheduler* previous_ = nullptr;
};

} // namespace creel::detail
