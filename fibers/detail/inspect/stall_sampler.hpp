// The stall watchdog: it looks at each watched run several times within the run's threshold.
//
// A run that switches also polls, every 10 ms or so, and shows that: see run_progress. The states
// of a run, and the transitions that a look makes:
//
//   moves ---- 1 it has made progress, or sleeps -------------> moves    the count begins anew
//   moves ---- 2 the look is late: the process was stopped ---> moves    the count begins anew
//   moves ---- 3 no progress, but a debugger holds the thread > moves    the count begins anew
//   moves ---- 4 no progress: four looks, the threshold ------> stalled  it is counted
//   stalled -- 5 reports are not too many --------------------> told     a report; mostly at once
//   stalled -- 6 it has made progress, ended or is held ------> moves    it is left out
//   told ----- 7 it has made progress, or has ended ----------> moves    a line with the length
//
// By the clock alone a process that was stopped by SIGSTOP, a machine that was suspended, and one
// that has given no thread a processor would all look like stalls. So only looks on time count.
#pragma once

#include <creel/fibers/detail/inspect/kernel_call.hpp>
#include <creel/fibers/detail/inspect/live_run.hpp>
#include <creel/fibers/detail/inspect/stall_cause.hpp>
#include <creel/fibers/stall_watch.hpp>
#include <creel/fibers/time.hpp>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace creel::detail {

// Threads: one.
class stall_sampler {
public:
    // Looks at all runs; it is `now` by creel::clock. Returns what is to be written to stderr:
    // mostly nothing. Throws: std::bad_alloc; the next look then returns what this one had.
    [[nodiscard]] std::string look(time_point now);

    // When to look again; max(): no run is watched.
    [[nodiscard]] time_point next_look() const noexcept { return next_look_; }

    // The thread ends, and no run is watched any more: as look(), without a next.
    [[nodiscard]] std::string end(time_point now);

private:
    struct sample {
        scheduler* run = nullptr;
        std::uint64_t run_number = 0;
        int thread_id = 0;
        run_progress progress{};
        stall_watch_options options{};
    };
    struct watched_run {
        sample seen{}; // the last one that showed progress
        time_point seen_at{};
        processor_time times{};  // of the thread, when the count began
        int unchanged = 0;       // looks
        bool is_stalled = false; // and counted
        bool is_told = false;    // on stderr: so its end will be
        time_point told_at = time_point::min();
        std::string who{}; // "thread 4711 "server"" and the fiber
        std::string fiber{};
        bool is_there = true; // in this look
    };

    void look_at(const sample& now, time_point t, bool is_late);
    static void begin_count(watched_run& w, const sample& now, time_point t);
    void look_at_stalled(watched_run& w, const sample& now, time_point t);
    void end_stall(watched_run& w, time_point end, std::string_view does);
    static void count(const watched_run& w, std::uint64_t stalls, duration length);
    void tell(watched_run& w, time_point t, const stall_cause& why);
    [[nodiscard]] bool may_tell(const watched_run& w, time_point t) noexcept;

    std::vector<watched_run> watched_{};
    time_point next_look_ = time_point::max();
    duration interval_{};
    time_point minute_began_ = time_point::min();
    unsigned told_in_minute_ = 0;
    std::uint64_t left_out_ = 0; // stalls without a report, since the last one
    std::string text_{};
};

} // namespace creel::detail
