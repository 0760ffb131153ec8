// How a run ends: what SIGINT and SIGTERM do to it, and how long its shutdown may take.
//
//               a signal: the root is cancelled            the grace passes:
//               with the grace, tokens tell of it           waits throw
//     runs ─────────────────────────────────────► told ──────────────────────► cut
//      │ f and its fibers end, or the program       │ all fibers end             │ all fibers end
//      │ has cancelled the root itself              ▼                            │
//      └─────────────────────────────────────► drained ◄────────────────────────┘
//
// The shutdown timeout counts from the signal or from the program's cancel. When it passes before
// the run has drained, the fibers that are left are named and the process aborts. A second signal
// takes its default action at once.
//
// Signals are the process's. A run that takes part is told of the signal that came, also one that
// begins afterwards, until the last has drained. What a drained run does then:
//
//                            raise_again                       throw_interrupted
//     no signal came         f's value or error                f's value or error
//     others still drain     told: throws interrupted          throws interrupted
//                            not told: f's value or error
//     it is the last         raises the signal; told and       throws interrupted, or raises the
//                            survived: throws interrupted      signal first, if it has reached a
//                                                              run with raise_again
//
// Not told is also a run that the program had cancelled itself before the signal came.
// An error of f comes before interrupted in all of them. docs/rationale.md has why.
#pragma once

#include <creel/fibers/cancel_scope.hpp>
#include <creel/io/detail/process/signals.hpp>
#include <creel/io/detail/ring/ring.hpp>
#include <creel/io/run.hpp>

#include <exception>
#include <optional>

namespace creel::io::detail {

// Of one run. Threads: the run's, from its main stack; attend() in its polls.
class run_shutdown : public supervisor {
public:
    // `wake_descriptor`: the eventfd of the ring to wake for a signal. Throws: std::system_error.
    run_shutdown(const run_options& options, int wake_descriptor);
    ~run_shutdown();
    run_shutdown(const run_shutdown&) = delete;
    run_shutdown& operator=(const run_shutdown&) = delete;

    // From now on signals cancel this scope, and the timeout counts from its cancel.
    void covers(cancel_scope& everything) noexcept;
    void covers_nothing() noexcept { everything_ = nullptr; }

    struct outcome {
        int to_raise = 0;    // the signal that is to be raised again now; 0 for none
        int interrupted = 0; // the signal that cut the run short; 0 for none
    };
    // The run takes part no longer. Once; who gets a signal to raise calls end_by_signal().
    [[nodiscard]] outcome drained() noexcept;

private:
    void attend_run() noexcept;
    void tell(int number) noexcept;
    [[nodiscard]] int received() noexcept;

    const signal_action on_signal_;
    const duration grace_;
    const duration timeout_;
    std::optional<signal_watch> watch_{}; // none: signals are left alone, or drained() was called
    cancel_scope* everything_ = nullptr;
    int received_ = 0;
    bool told_ = false;
    bool cut_short_ = false; // told before the program itself had cancelled everything
};

// Raises the signal again, with a line for an error that the process takes with it; throws
// interrupted, if that is due and there is no real error. Else returns. Threads: the run's.
void end_by_signal(run_shutdown::outcome how, const std::exception_ptr& error);

// For std::terminate: an `interrupted` that nobody catches does not keep the other runs from
// draining. The thread waits until the last has raised the signal, which ends the process. Returns
// where none will, or if the process has survived it. Threads: any.
void let_others_drain() noexcept;

// Threads that wait there, and runs that take part in signals. For tests.
[[nodiscard]] unsigned threads_letting_drain() noexcept;
[[nodiscard]] unsigned runs_with_signals() noexcept;

} // namespace creel::io::detail
