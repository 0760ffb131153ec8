// The runs of the process that take part in SIGINT and SIGTERM, as a group: a signal reaches all of
// them, and the last of them to drain raises it again.
//
//             1. a run begins              2. more runs begin and leave
//     none ─────────────────► taking part ◄───────────┐
//      ▲                       │    │  └──────────────┘
//      │ 3. the last leaves    │    │ 4. the last leaves; a signal is to be raised
//      ├───────────────────────┘    ▼
//      └───────────────────────  raising
//        5. the process survives
//
//     1, 2  signalled_run()      1 forgets the signal of the group before
//     2-4   leave()              a signal is to be raised if it has reached a run that wants that
//     5     signal_was_raised()
//
// 3 and 5 wake the threads in wait_until_raised(). A run that begins during `raising` begins a new
// group; a thread that waits then waits for 5, or for the new group's 3.
//
// The group keeps its first signal: a run that begins after the signal ends like the runs that were
// there. A second signal reaches no run: it takes its default action in the handler, so that
// pressing Ctrl-C twice always ends the process. A forked child has none of its parent's runs.
#pragma once

#include <creel/io/detail/process/signals.hpp>

#include <optional>

namespace creel::io::detail {

// The part of one run, from its construction to leave(). Threads: the run's.
class signalled_run {
public:
    // `wake_descriptor`: the eventfd of the ring that a signal wakes. `raises_again`: a signal that
    // reaches this run is to be raised again. Throws: std::system_error.
    signalled_run(int wake_descriptor, bool raises_again);
    ~signalled_run();
    signalled_run(const signalled_run&) = delete;
    signalled_run& operator=(const signalled_run&) = delete;

    // The signal that has reached this run; 0 for none. Cost: an atomic exchange until one has.
    [[nodiscard]] int received() noexcept;

    struct departure {
        int received = 0; // as received(), now that no further signal can reach the run
        int to_raise = 0; // not 0: the caller raises it now, and calls signal_was_raised()
    };
    // Ends the part, once. In a forked child, which has a copy of its parent's run, both are 0.
    [[nodiscard]] departure leave() noexcept;

private:
    const bool raises_again_;
    std::optional<signal_watch> watch_{}; // empty: leave() was called
    int received_ = 0;
};

// The process has survived the signal. Threads: any.
void signal_was_raised() noexcept;

// Blocks the thread until the last run has drained and has raised the signal. Returns at once when
// no run will raise one. After 5 s it says once on stderr why the thread waits. Threads: any.
void wait_until_raised() noexcept;

// Threads that wait there, and runs that take part. For tests.
[[nodiscard]] unsigned threads_waiting_for_raise() noexcept;
[[nodiscard]] unsigned runs_with_signals() noexcept;

} // namespace creel::io::detail
