// The entry point: runs a function as the first fiber of this thread, with a ring for its I/O.
//
//     int main() {
//         io::run([] {
//             io::tcp_listener listener{io::endpoint{"127.0.0.1", 8080}};
//             ...
//         });
//     }
//
// The function may take the root nursery, creel::nursery&, which owns all fibers of the run. SIGINT
// and SIGTERM cancel the root; when all fibers have ended the signal is raised again, and the
// process ends as any Unix program does. A second signal takes its default action at once.
#pragma once

#include <creel/fibers/entry_point.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/time.hpp>
#include <creel/io/statistics.hpp>

#include <concepts>
#include <cstddef>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

namespace creel::io {

// What SIGINT and SIGTERM do to a run. Signals belong to the process: a signal cancels all of its
// runs, and the last of them to drain raises it again. The handlers from before the runs are
// restored first, and see the signal if it is raised again. A handler that the program installs
// during a run stays, and gets the signals instead of the run.
enum class signal_action : unsigned char {
    // Cancel the root, drain, and raise the signal again; an error of f is printed before. While
    // other runs still drain, and if a handler survives the signal: throw io::interrupted instead,
    // even if f returned a value, so that the program does not go on after a run that a signal has
    // cut short. If the program does not catch it, the thread waits for the other runs, and then
    // the signal ends the process.
    raise_again,
    throw_interrupted, // cancel the root, drain, throw io::interrupted even if f returned a value
    ignore,            // leave signals alone
};
using enum signal_action;

// A signal ended the run; see signal_action. If another run of the process joins this thread, catch
// it on this thread: otherwise the thread and that run wait for each other.
class interrupted final : public std::runtime_error {
public:
    explicit interrupted(int signal_number);
    [[nodiscard]] int signal_number() const noexcept { return signal_number_; }

private:
    int signal_number_;
};

struct run_options {
    signal_action on_signal = raise_again;
    // How long waits go on after a signal. During the grace only cancel_called() and the tokens'
    // cancelled() tell of the signal, as with cancel(reason, grace): a server that looks at them
    // takes no more requests, and answers the requests it has. The program itself ends a wait that
    // should end at once: for the next connection, a fiber beside io::serve closes the listener
    // (see io::serve).
    //
    // When all fibers have ended the run is over, however much of the grace is left. A second
    // signal ends the process at once. The grace must be shorter than the shutdown_timeout.
    saturating_duration shutdown_grace{};
    // This signal writes all fibers of the process to stderr, as creel::dump_fibers() does, and the
    // process goes on: SIGQUIT, which Ctrl-\ sends, with on_signal = ignore none. 0: none. If the
    // program has an action of its own for the signal when the run begins, that stays. While such
    // a run is on, the process has a thread, "creel-dump", that waits for the signal, and creel has
    // the highest real-time signal that was free: see creel::dump_thread.
    int dump_signal = -1;
    // Counts from the signal, or from the program's cancel of the root. When it has passed, the
    // fibers that are left are listed on stderr and the process aborts.
    saturating_duration shutdown_timeout = duration::max();
    std::size_t stack_bytes = std::size_t{256} * 1024; // of a fiber, virtual
    std::size_t max_fibers = 0; // at one time; 0: as memory allows. See scheduler_options
    // During a run, a handler of SIGSEGV names a fiber that overflows its stack, its spawn site and
    // the remedy, and then calls the handler from before. For any other fault it calls that handler
    // at once. Off under ASan.
    bool report_overflow = true;
    bool measure_stacks = false; // for stack_uses(): see stack_use.hpp; debug mode does so, too
    // How long the thread looks for work before it sleeps: at most 25 us, and only while that has
    // lately paid. A reply or a wake from another thread that comes within this time is handled
    // several times sooner. It pays if waits are short and there is a core to spare.
    saturating_duration idle_spin{};
    bool debug = false; // reports probable mistakes on stderr; so does CREEL_DEBUG=1
    // A run that has switched no fibers in this time is reported on stderr while it lasts, with the
    // fiber that computes or blocks the thread: see creel::stall_watch. 0: 100 ms in debug mode,
    // else never. Negative, or duration::max(): never. With on_signal = ignore and no dump_signal
    // the report of a thread that computes has no backtrace, because that takes a signal.
    saturating_duration stall_threshold{};
    // Records what the run does in this file, in the format that Perfetto (ui.perfetto.dev) opens:
    // slices of fibers, waits, spawns, cancels and polls. It is a flight recorder: the events go to
    // trace_bytes of memory, the newest overwrite the oldest, and the file is written when the run
    // ends; see creel::write_trace. Each run needs a file of its own. Empty: no trace.
    std::string trace{};
    std::size_t trace_bytes = std::size_t{64} * 1024 * 1024;
    // Raises the soft limit of descriptors (`ulimit -n`) to the hard one, for good, because each
    // client of a server needs a descriptor. A child of fork() gets the old limit back. A child of
    // posix_spawn(), system() or popen() has the raised one; if it calls select(2) with a
    // descriptor above 1023, it corrupts its memory. False leaves the limit alone.
    bool raise_descriptor_limit = true;
    // The sizes of the submission queue, which must hold the entries of one round, and of the
    // completion queue; 0: 1024 and 4096. They are wishes. If the user may lock no more memory
    // (ulimit -l), the run waits up to 127 ms for the memory of rings that have ended. Then it
    // takes a half, a quarter and so on of both sizes, down to 64 and 128; see ring_statistics. A
    // ring of the default sizes locks about 136 KiB. An ordinary user may lock 8 MiB, which is
    // enough for 60 such rings at one time; for more threads ask for smaller rings.
    unsigned ring_entries = 0;
    unsigned completion_entries = 0;
    // "unix:/run/app.sock", or "unix:@app" for a name outside of the file system: a socket at which
    // creelctl, curl or Prometheus can look at the process while it runs, also while its threads
    // are stuck, and cancel a nursery by its name; docs/debugging.md has the protocol. Only
    // the same user and root may connect. The file has mode 0600, replaces one that a dead process
    // has left, and is removed after the run. Runs with the same address share one socket and one
    // thread, "creel-inspect". A child of fork() does not serve it. Empty: none.
    std::string inspect{};
};

namespace detail {

// The untyped half of run(): makes the ring and the scheduler, calls main.run(entry), and takes
// both down; throws what run() throws. `where`: the call of io::run.
void run_with_ring(const run_options& options, const std::source_location& where,
                   const std::function<void(entry_point&)>& main);

} // namespace detail

// Runs f until it and all its fibers have ended. Returns f's value, or throws f's error. If the
// program has cancelled the root and that has cut f short, run returns if f is void, and throws
// task_cancelled if not. A thread has one run at a time; each thread may have one. Scopes that the
// plain thread is in have no effect inside the run: open them in f.
//
// The thread keeps its ring, which is two descriptors and locked memory, for its next run with the
// same sizes, until the thread ends (at most sixteen idle threads keep one). If descriptor 0, 1 or
// 2 is closed, /dev/null is opened in its place, for good: otherwise a connection would get that
// number, and receive the program's output.
//
// run may be called in the destructor of a global object, in an atexit function and in the
// destructor of a thread_local. If that thread has had a run before, f then runs on a thread made
// for it, with thread_locals of its own, and the ending thread waits.
//
// A child of fork() that is made outside the run, or on a thread without a run, may have runs. In a
// child that is made inside f, call exec or _exit: every wait, wake, spawn and I/O call there
// aborts, and so does exit().
//
// Parks: it blocks the thread. Threads: any, from their own stack.
// Throws: f's error; std::system_error, with the remedy, if io_uring is refused, if there can be no
// socket at options.inspect, or if options.trace cannot be written; interrupted as on_signal says,
// instead of f's value, because the caller should end. An error of f is thrown rather than
// interrupted. An uncaught error is named on stderr with the fiber it came from.
// Cost: about 0.2 ms, of which a ring takes 0.03 to 0.06 ms; a thread keeps its ring.
template <typename F>
auto run(const run_options& options, F&& f,
         std::source_location where = std::source_location::current()) -> root_result<F> {
    root_main main{f};
    detail::run_with_ring(options, where, [&](entry_point& entry) { main.run(entry); });
    return main.result();
}

template <typename F>
    requires(!std::same_as<std::remove_cvref_t<F>, run_options>)
auto run(F&& f, std::source_location where = std::source_location::current()) -> root_result<F> {
    return run(run_options{}, std::forward<F>(f), where);
}

} // namespace creel::io
