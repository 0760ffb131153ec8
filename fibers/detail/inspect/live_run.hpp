// What a run shows to other threads at any time: which thread it is on, and how many fibers it had
// at its last poll. live_runs.hpp lists the runs of the process.
#pragma once

#include <creel/fibers/detail/inspect/run_counters.hpp>
#include <creel/fibers/time.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace creel::detail {

class scheduler;
struct run_snapshot;

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

    run_counters counters{};

private:
    friend void list_run(scheduler& s) noexcept;
    friend void unlist_run(scheduler& s) noexcept;
    friend void for_each_run(const std::function<void(scheduler&)>& visit);

    std::atomic<time_point::rep> last_poll_{0}; // by the run's clock
    std::atomic<std::uint64_t> tasks_{0};
    std::atomic<std::size_t> fibers_{0};
    std::atomic<std::size_t> idle_fibers_{0};
    std::atomic<int> thread_id_{0}; // gettid(2)
    scheduler* next_ = nullptr;     // guarded by the mutex of the list
    scheduler* previous_ = nullptr;
};

} // namespace creel::detail
