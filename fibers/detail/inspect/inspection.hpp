// A request to a run to show its fibers, and the copy that the run makes of them on its own thread.
//
// The requester posts the inspection to the run's inbox. The run copies on the stack of Boost's
// dispatcher, between two switches: there each fiber is parked or ready, its registers are saved,
// and no small stack of a fiber has to bear the work. It works in slices of some milliseconds, and
// lets its fibers run in between.
//
// The states, and the function that makes each transition:
//
//   posted --- 1 scheduler::add_inspection() -------> taken  the run has it; a slice comes soon
//   taken ---- 2 work(), for each slice ------------> taken  `progress` counts
//   taken ---- 3 work(), the last slice ------------> done   `found` belongs to the requester
//   posted, taken -- 4 scheduler::end_inspections() > ended  nothing was found
//   posted, taken -- 5 give_up() by the requester --> ended  by the run, at its next look
//
// Requester and run hold it together, and the last of them deletes it: a thread that is stalled may
// take it long after the requester has gone on.
#pragma once

#include <creel/fibers/detail/inspect/snapshot.hpp>
#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <string>
#include <unordered_map>
#include <unordered_set>

namespace creel::detail {

class scheduler;
struct fiber_record;
struct runnable;
struct task_record;

struct inspection_limits {
    std::size_t most_fibers = 0; // listed one by one; a run with more of them groups them
    std::size_t most_frames = 0; // of a fiber
    std::uint64_t only = 0;      // the number of the one fiber to list; 0: all
};

class inspection : inbox_node {
public:
    static constexpr std::size_t most_fibers = 10'000; // a list of these holds the run up for 10 ms
    static constexpr std::size_t most_frames = most_frames_copied;
    static constexpr std::size_t most_groups = 256;

    inspection(const inspection&) = delete;
    inspection& operator=(const inspection&) = delete;

    // Posts a new inspection to a run that is listed, and stays so meanwhile: see live_runs.hpp.
    // Throws: std::bad_alloc. Threads: any.
    static inspection* post(scheduler& to, const inspection_limits& limits);

    // Waits for the copy, and lets go of the inspection. Empty if the run has ended. A run that
    // makes no progress for as long as `patience` is told as stalled.
    // Parks: it blocks the thread. Threads: the requester's. Throws: std::bad_alloc.
    static std::optional<run_snapshot> await(inspection* posted, duration patience);

    // Copies the calling thread's own run at once, by a fiber, for a process that ends. The fiber
    // is shown as running. Threads: the run's. Throws: std::bad_alloc, and what describe() throws.
    static run_snapshot copy_here(scheduler& of, const inspection_limits& limits);

    // Lets go of an inspection whose copy is not wanted any more. Threads: the requester's.
    static void give_up(inspection* posted) noexcept;

private:
    friend class scheduler;
    enum state : std::uint32_t { pending, done, ended };

    inspection(scheduler& of, const inspection_limits& limits) noexcept;
    ~inspection() = default;

    // On the run's thread.
    bool work() noexcept;                        // one slice; true: there is no other
    void leaves(const fiber_record& f) noexcept; // a carrier ends
    void tell_progress() noexcept;
    void finish(state how) noexcept;

    void copy_slice();
    void begin();
    void list_all();
    void group_some();
    bool slice_is_over() noexcept;
    bool no_time_is_left() noexcept; // for another backtrace in this slice
    void list(const task_record* t, const fiber_record* f, std::size_t depth);
    void fill(fiber_snapshot& to, const task_record* t, const fiber_record* f) const;
    void group(const task_record* t, const fiber_record* f);
    std::size_t group_not_started(const runnable* first); // the number that it looked at
    void release() noexcept;

    scheduler& home_;
    const inspection_limits limits_;
    const time_point posted_at_ = clock::now();
    std::source_location began_at_{};
    std::atomic<std::uint32_t> progress_{0}; // rises with each slice and with the end
    std::atomic<std::uint32_t> state_{pending};
    std::atomic<bool> given_up_{false};
    std::atomic<int> holders_{2};

    // The run's, until `done`.
    inspection* next_ = nullptr;
    time_point slice_ends_ = time_point::max(); // by the real clock
    time_point now_{};                          // the run's
    bool began_ = false;
    bool whole_list_ = false;                                 // else groups
    bool looked_ = false;                                     // this slice has a backtrace
    bool skipped_ = false;                                    // and had no time for another
    std::unordered_set<const runnable*> ready_{};             // of a whole list, in this slice
    std::unordered_map<std::uint64_t, std::size_t> places_{}; // in the tree, by number
    std::unordered_set<std::uint64_t> without_frames_{}; // numbers that the next slice looks at
    const fiber_record* next_carrier_ = nullptr;         // the next to group
    unsigned grouped_ = 0;
    std::uint64_t started_ = 0; // tasks that have a fiber
    std::unordered_map<std::string, std::size_t> groups_{};
    std::string key_{};
    run_snapshot found_{};
};

} // namespace creel::detail
