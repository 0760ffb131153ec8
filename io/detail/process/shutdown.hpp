// How a run ends: what SIGINT and SIGTERM do to it, and how long its shutdown may take.
//
//     running ───1───► signalled ───2───► cut
//        │                 │               │
//        3                 3               3
//        ▼                 ▼               ▼
//     ─────────────────  drained  ─────────────────
//
//     1  A signal came: signal_came() cancels the root with the grace. attend_run() calls it, after
//        a wake of the ring, after a poll or around a wait while `watching`, and from covers().
//        stage_ is then `cut_short`, or it is `cancelled_before` if the program had cancelled the
//        root itself before the signal came: the signal does not cut such a run short.
//     2  The grace passes: waits throw. Until then only cancel_called() and the tokens tell of the
//        signal. The cancel_scope does that, as for every cancel with a grace.
//     3  f and all fibers have ended: drained(). end_by_signal() then acts on the outcome.
//
// The shutdown timeout counts from the signal or from the program's own cancel of the root:
// attend_run() sets the deadline when it first sees the cancel. When the deadline passes before 3,
// give_up() names the fibers that are left and aborts the process. A second signal takes its
// default action at once.
//
// Signals belong to the process: signalled_runs.hpp has the state that its runs share. What a
// drained run does:
//
//                            raise_again                       throw_interrupted
//     no signal came         f's value or error                f's value or error
//     other runs drain       cut short: throws interrupted     throws interrupted
//                            else: f's value or error
//     it is the last         raises the signal; cut short and  throws interrupted; first
//                            survived: throws interrupted      raises the signal, if it has
//                                                              reached a run with raise_again
//
// In every case an error of f is thrown instead of interrupted. docs/rationale.md has the reasons.
#pragma once

#include <creel/fibers/cancel_scope.hpp>
#include <creel/io/detail/process/signalled_runs.hpp>
#include <creel/io/detail/ring/ring.hpp>
#include <creel/io/run.hpp>

#include <exception>
#include <optional>

namespace creel::io::detail {

// The shutdown of one run. Threads: the run's, from its main stack; attend() in the polls of its
// ring.
class run_shutdown : public supervisor {
public:
    // `wake_descriptor`: the eventfd of the ring that a signal wakes. Throws: std::system_error.
    run_shutdown(const run_options& options, int wake_descriptor);
    run_shutdown(const run_shutdown&) = delete;
    run_shutdown& operator=(const run_shutdown&) = delete;

    // Between these two calls a signal cancels `everything`; the timeout counts from its cancel.
    void covers(cancel_scope& everything) noexcept;
    void covers_nothing() noexcept { everything_ = nullptr; }

    struct outcome {
        int to_raise = 0;    // the signal that is to be raised again now; 0 for none
        int interrupted = 0; // the signal that cut the run short; 0 for none
    };
    // Signals no longer reach the run. Call it once, and pass the outcome to end_by_signal().
    [[nodiscard]] outcome drained() noexcept;

private:
    enum class stage : unsigned char { running, cancelled_before, cut_short };

    void attend_run() noexcept;
    void signal_came(int number) noexcept;

    const signal_action on_signal_;
    const duration grace_;
    const duration timeout_;
    std::optional<signalled_run> signals_{}; // empty: signals are ignored, or drained() was called
    cancel_scope* everything_ = nullptr;
    stage stage_ = stage::running;
};

// Raises the signal again if that is due; before that it prints the error, which would be lost with
// the process. Then throws interrupted if that is due and `error` is no real error. Otherwise
// returns.
// Threads: the run's.
void end_by_signal(run_shutdown::outcome how, const std::exception_ptr& error);

// For the terminate handler. If an uncaught `interrupted` ends this thread, the thread waits here,
// so that the other runs drain and the last of them raises the signal, which ends the process.
// Returns at once if no run will raise a signal, and later if the process has survived it.
// Threads: any.
void let_others_drain() noexcept;

} // namespace creel::io::detail
