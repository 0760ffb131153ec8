// What a run writes to stderr unasked or on a signal: the dump of all fibers, and its stalls. See
// run_options::dump_signal and stall_threshold.
#pragma once

#include <creel/fibers/dump_thread.hpp>
#include <creel/fibers/stall_watch.hpp>
#include <creel/io/detail/process/signals.hpp>
#include <creel/io/run.hpp>

#include <optional>

namespace creel::io::detail {

// While it exists, the signal wakes the thread that dumps. Empty if the options ask for no signal,
// if the program has an action of its own for it, or if the process has no thread or descriptor
// left for this, which one line on stderr tells: the run is worth more than its dumps.
// Threads: the run's.
class dump_on_signal {
public:
    // Ends the process if the signal is one that cannot serve.
    explicit dump_on_signal(const run_options& options);

private:
    struct watched {
        explicit watched(int number) : watch(set_of(number), thread.wake_descriptor()) {}

        dump_thread thread{};
        signal_watch watch; // ends first: then no handler touches the thread's descriptor
    };
    std::optional<watched> watched_{};
};

// While it exists, the stalls of the run are reported. Empty if the options, with the debug mode of
// the run, ask for none, or if there is no thread left, as above. Threads: the run's, inside it.
class report_of_stalls {
public:
    report_of_stalls(const run_options& options, bool debug);

private:
    std::optional<stall_watch> watch_{};
};

} // namespace creel::io::detail
