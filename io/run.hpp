// The way in: runs a function as the first fiber of this thread, with a ring for its I/O.
//
//     int main() {
//         io::run([] {
//             io::tcp_listener listener{io::endpoint{"127.0.0.1", 8080}};
//             ...
//         });
//     }
//
// The function may take the root nursery, creel::nursery&, in which everything lives. SIGINT and
// SIGTERM cancel the root; when all fibers have ended the signal is raised again, and the process
// ends as any Unix program does. A second signal takes its default action at once.
#pragma once

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/time.hpp>
#include <creel/io/statistics.hpp>

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <type_traits>
#include <utility>

namespace creel::io {

// What SIGINT and SIGTERM do to a run. Signals are the process's: one that comes cancels all its
// runs, and the last of them to drain raises it again. Handlers that were installed before are put
// back then, and see the signal if it is raised again; one that the program installs during a run
// stays, and gets the signals instead of it.
enum class signal_action : unsigned char {
    // Cancel the root, drain, raise the signal again; an error of f is printed before. While other
    // runs still drain, and if a handler survives the signal: throw io::interrupted instead, also
    // if
    // f gave a value, so that nothing goes on behind a run that a signal has cut short. Where
    // nobody
    // catches that, the thread waits for the other runs, and the signal ends the process.
    raise_again,
    throw_interrupted, // cancel the root, drain, throw io::interrupted, also if f gave a value
    ignore,            // leave signals alone
};
using enum signal_action;

// A signal ended the run; see signal_action. A thread that one of the process's other runs joins
// catches it: otherwise each of the two waits for the other.
class interrupted final : public std::runtime_error {
public:
    explicit interrupted(int signal_number);
    [[nodiscard]] int signal_number() const noexcept { return signal_number_; }

private:
    int signal_number_;
};

struct run_options {
    signal_action on_signal = raise_again;
    // How long after a signal waits go on. During the grace only cancel_called() and the tokens'
    // cancelled() tell of it, as with cancel(reason, grace): a server that looks at them takes no
    // more requests, and answers those it has. A wait that should end at once, such as that for the
    // next connection, is ended by hand: a fiber beside io::serve closes its listener, see there.
    //
    // When all fibers have ended the run is over, however much of the grace is left; a second
    // signal ends the process at once. It must be shorter than the shutdown_timeout.
    saturating_duration shutdown_grace{};
    // From the signal, or the program's cancel of the root. When it has passed, the fibers that are
    // left are listed on stderr and the process aborts.
    saturating_duration shutdown_timeout = duration::max();
    std::size_t stack_bytes = std::size_t{256} * 1024; // of a fiber, virtual
    std::size_t max_fibers = 0; // at one time; 0: as memory allows. See scheduler_options
    // While a run is on, a handler of SIGSEGV names a fiber whose stack overflows, where it was
    // spawned, and the remedy; then, and at once for any other fault, comes what was installed
    // before. Off under ASan.
    bool report_overflow = true;
    bool measure_stacks = false; // for stack_uses(): how deep the stacks go, by spawn site
    // Looks for work so long before the thread sleeps, at most 25 us, and only while that has
    // lately paid: a wake from another thread, or a reply, that comes within it is met several
    // times sooner. Worth it where the wait is short and a core is to spare.
    saturating_duration idle_spin{};
    bool debug = false; // reports what is probably a mistake on stderr; so does CREEL_DEBUG=1
    // Raises the soft limit of descriptors (`ulimit -n`) to the hard one, for good: a server's
    // clients are descriptors. A child of fork() gets the old limit back. A child of posix_spawn(),
    // system() or popen() has the raised one; if it calls select(2) with a descriptor above 1023,
    // it corrupts its memory. False leaves the limit alone.
    bool raise_descriptor_limit = true;
    // Of the submission queue, in which what one round submits fits, and of the completion queue;
    // 0: 1024 and 4096. They are wishes: where the user may lock no more memory (ulimit -l), the
    // run waits up to 127 ms for what rings that have ended give back, and then has a half, a
    // quarter and so on of both, down to 64 and 128; see ring_statistics. A ring of the default
    // sizes locks about 136 KiB: an ordinary user, who may lock 8 MiB, has 60 of them at a time;
    // for more threads ask for smaller ones.
    unsigned ring_entries = 0;
    unsigned completion_entries = 0;
};

namespace detail {

// The untyped half of a run: its scheduler, ring and shutdown.
class run_session {
public:
    // `last` gets the ring's counters when it has ended.
    run_session(const run_options& options, ring_statistics& last);
    ~run_session();
    run_session(const run_session&) = delete;
    run_session& operator=(const run_session&) = delete;

    // Runs body, which calls run_root(), as the main fiber of a scheduler; returns its error.
    [[nodiscard]] std::exception_ptr schedule(const std::function<void()>& body);

    // Signals cancel `root` from the one call to the other; then they cancel what is left.
    void root_begins(nursery& root) noexcept;
    void root_ended(nursery& root) noexcept;

    // Takes the ring down; then raises the signal again, or throws what is to be thrown.
    void finish(std::exception_ptr error);

private:
    struct state;

    [[nodiscard]] scheduler_options scheduling() const noexcept;
    void wait_for_natives();

    std::unique_ptr<state> state_;
};

// Makes a session, has body call run_root() in it, and finishes it: on this thread, or, where it is
// ending and can have no run any more, on one made for that. `where`: the call of io::run.
void run_session_on_living_thread(const run_options& options, const std::source_location& where,
                                  const std::function<void(run_session&)>& body);

template <typename F>
decltype(auto) call_with_root(F& f, nursery& root) {
    if constexpr (std::invocable<F&, nursery&>)
        return std::invoke(f, root);
    else
        return std::invoke(f);
}

template <typename F>
using run_result = decltype(call_with_root(std::declval<F&>(), std::declval<nursery&>()));

template <typename F>
auto run_root(run_session& session, F& f, const std::source_location& where)
    -> std::remove_cvref_t<run_result<F>> {
    nursery root = creel::detail::nursery_access::open({.name = "root"}, where);
    struct end_of_root {
        run_session& session;
        nursery& root;
        ~end_of_root() { session.root_ended(root); }
    } const last{session, root};
    const auto body = [&](nursery& n) -> std::remove_cvref_t<run_result<F>> {
        session.root_begins(n);
        return call_with_root(f, n);
    };
    return creel::detail::nursery_access::run(root, body);
}

} // namespace detail

// Runs f until it and all its fibers have ended. Returns its value, or throws its error; if the
// program cancelled the root, an f that was cut short returns if it is void, and gives
// task_cancelled if not. One run at a time on a thread, as many as there are
// threads. Scopes that the plain thread is in have no effect inside: open them in f.
//
// The thread keeps its ring, which is two descriptors and locked memory, for its next run with the
// same sizes, until the thread ends (at most sixteen idle threads do). Where descriptor
// 0, 1 or 2 is closed, /dev/null is opened in its place, for good: otherwise a connection would get
// that number, and receive what the program prints.
//
// In the destructor of a global object, an atexit function or the destructor of a thread_local, on
// a thread that has had a run before, f runs on a thread made for it, with thread_locals of its
// own, and the ending one waits.
//
// A child of fork() that is made outside the run, or on a thread without one, may have runs. In one
// that is made inside f, call exec or _exit: what waits, wakes, spawns or does I/O there aborts,
// and so does exit().
// Parks: it blocks the thread. Threads: any, from their own stack. Throws: what f throws;
// std::system_error that names the remedy where io_uring is refused; interrupted as on_signal says,
// and then instead of f's value, for the caller is to end: only an error of f comes before it. An
// error that nobody catches is named on stderr with the fiber it came from.
// Cost: about 0.15 ms, or 0.1 where the thread has kept its ring.
template <typename F>
auto run(run_options options, F&& f, std::source_location where = std::source_location::current())
    -> std::remove_cvref_t<detail::run_result<F>> {
    using result = std::remove_cvref_t<detail::run_result<F>>;
    using session = detail::run_session;
    if constexpr (std::is_void_v<result>) {
        detail::run_session_on_living_thread(options, where,
                                             [&](session& s) { detail::run_root(s, f, where); });
    } else {
        std::optional<result> value;
        detail::run_session_on_living_thread(
            options, where, [&](session& s) { value.emplace(detail::run_root(s, f, where)); });
        return std::move(*value);
    }
}

template <typename F>
    requires(!std::same_as<std::remove_cvref_t<F>, run_options>)
auto run(F&& f, std::source_location where = std::source_location::current())
    -> std::remove_cvref_t<detail::run_result<F>> {
    return run(run_options{}, std::forward<F>(f), where);
}

} // namespace creel::io
