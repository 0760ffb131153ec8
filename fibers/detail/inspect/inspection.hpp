// A request to a run to show its fibers, and the copy that the run makes of them: of all, of groups
// of them, or of one. How the run comes to it: see run_request.hpp.
#pragma once

#include <creel/fibers/detail/inspect/live_run.hpp>
#include <creel/fibers/detail/inspect/run_request.hpp>
#include <creel/fibers/detail/inspect/snapshot.hpp>

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

class inspection : public run_request {
public:
    static constexpr std::size_t most_fibers = 10'000; // a list of these holds the run up for 10 ms
    static constexpr std::size_t most_frames = most_frames_copied;
    static constexpr std::size_t most_groups = 256;

    // A new one, posted to a run that is listed, and stays so meanwhile: see live_runs.hpp.
    // Throws: std::bad_alloc. Threads: any.
    static pointer<inspection> post_to(scheduler& run, const inspection_limits& limits);

    // Waits for the copy. Empty if the run has ended. A run that does not go on with the copy for
    // as long as `patience` is reported as stalled if it has not moved at all. A run that has moved
    // gets the same time once more, and is then reported as late.
    // Parks: it blocks the thread. Threads: the requester's. Throws: std::bad_alloc.
    [[nodiscard]] std::optional<run_snapshot> await_copy(duration patience);

    // Copies the calling thread's own run at once, by a fiber, for a process that ends. The fiber
    // is shown as running. Threads: the run's. Throws: std::bad_alloc, and what describe() throws.
    static run_snapshot copy_here(scheduler& of, const inspection_limits& limits);

private:
    static const kind how;

    inspection(scheduler& of, const inspection_limits& limits) noexcept;
    ~inspection() = default;

    // On the run's thread.
    bool work() noexcept; // one slice; true: there is no other
    void copy_slice();
    void begin();
    void list_all();
    void look_for_one();
    void look_for_one_not_started(const runnable* first);
    void list_only(const task_record* t, const fiber_record* f);
    void group_some();
    bool slice_is_over() noexcept;
    bool no_time_is_left() noexcept; // for another backtrace in this slice
    void list(const task_record* t, const fiber_record* f, std::size_t depth);
    void fill(fiber_snapshot& to, const task_record* t, const fiber_record* f) const;
    void group(const task_record* t, const fiber_record* f);
    std::size_t group_not_started(const runnable* first); // the number that it looked at

    const inspection_limits limits_;
    const unsigned run_number_;
    const std::source_location began_at_;
    const run_progress before_; // when it was posted

    // The run's, until the work is done.
    time_point slice_ends_ = time_point::max(); // by the real clock
    time_point now_{};                          // the run's
    bool began_ = false;
    bool whole_list_ = false;                                 // else groups
    bool looked_ = false;                                     // this slice has a backtrace
    bool skipped_ = false;                                    // and had no time for another
    std::unordered_set<const runnable*> ready_{};             // of a whole list, in this slice
    std::unordered_map<std::uint64_t, std::size_t> places_{}; // in the tree, by number
    std::unordered_set<std::uint64_t> without_frames_{};      // numbers for the next slice
    std::uint64_t started_ = 0;                               // tasks that have a fiber
    std::unordered_map<std::string, std::size_t> groups_{};
    std::string key_{};
    run_snapshot found_{};
};

} // namespace creel::detail
