// SIGINT and SIGTERM, which belong to the process while rings belong to threads.
//
// The first watch installs the handlers, the last to leave puts the old ones back. A signal marks
// every watch and wakes its ring; the second takes the default action at once, so that Ctrl-C twice
// always ends a program. A signal that was ignored before (nohup) stays ignored. A forked child
// takes signals as if its parent had no run.
#pragma once

#include <cstddef>

namespace creel::io::detail {

class signal_watch {
public:
    // `wake_descriptor`: the eventfd of the ring to wake. Throws: std::system_error.
    explicit signal_watch(int wake_descriptor);
    ~signal_watch();
    signal_watch(const signal_watch&) = delete;
    signal_watch& operator=(const signal_watch&) = delete;

    // The signal that came since this watch began; 0 for none.
    [[nodiscard]] int received() const noexcept;

    struct outcome {
        int received = 0; // the signal that came since this watch began; 0 for none
        // The signal that is to be raised again now: when this was the last watch, a signal came,
        // and one of those it came to wants it raised. Else 0.
        int to_raise = 0;
    };
    // Ends the watch, once.
    outcome leave(bool wants_raise) noexcept;

private:
    std::size_t slot_;
    bool watching_ = true;
};

} // namespace creel::io::detail
