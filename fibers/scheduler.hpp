// Runs a scheduler on this thread over any poller. io::run and tests with a virtual clock enter
// here; programs call io::run.
#pragma once

#include <creel/fibers/build_check.hpp>
#include <creel/fibers/detail/task/filled.hpp>
#include <creel/fibers/latency_histogram.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/poller.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace creel {

struct statistics_source;

struct scheduler_options {
    std::size_t stack_bytes = 256 * 1024; // of a fiber, virtual; spawn_options may differ
    // The most fibers at one time. 0: as many as memory allows; a child fails with std::bad_alloc
    // if there is no memory for its stack. Children beyond this number wait in line for a fiber
    // that ends, until their nursery is cancelled. Too small a number is a deadlock, which
    // list_fibers() shows: all fibers wait for children in line.
    std::size_t max_fibers = 0;
    // Names a fiber with an overflowing stack on stderr before the process dies of it: see
    // run_options of io::run.
    bool report_overflow = false;
    bool measure_stacks = false; // for stack_uses(): see stack_use.hpp
    // How long to look for work before the thread goes to sleep; at most 25 us. It spins only while
    // that has lately paid, so an idle thread uses no CPU.
    saturating_duration idle_spin{};
    // Reports probable mistakes on stderr. CREEL_DEBUG=1 in the environment does the same.
    bool debug = false;
    // Records what the run does in this file: see trace.hpp. Empty: no trace.
    std::string trace{};
    std::size_t trace_bytes = std::size_t{64} * 1024 * 1024; // of memory; the newest events stay
    std::source_location began_at{}; // for dumps: the call of the program that begins the run
    // A signal may cancel the root. So a main fiber whose wait that would end may wait for the
    // signal, and the run is no deadlock if all others wait, too.
    bool takes_signals = false;
    const statistics_source* statistics = nullptr; // of the entry point; see process_statistics.hpp
};

// The work of one scheduler since its run began, and the things that it holds now.
struct scheduler_statistics {
    std::uint64_t tasks_spawned = 0;
    std::uint64_t tasks_finished = 0;
    std::uint64_t fibers_created = 0; // stacks bound to a context; recycled ones count once
    std::uint64_t fibers_alive = 0;   // carriers now, idle ones included
    std::uint64_t fibers_idle = 0;
    std::uint64_t peak_tasks = 0; // most children alive at one time
    std::uint64_t switches = 0;
    std::uint64_t polls = 0;           // rounds that asked the poller without blocking
    std::uint64_t waits = 0;           // rounds that blocked
    std::uint64_t spins = 0;           // rounds that looked for work before they would have blocked
    std::uint64_t spins_paid = 0;      // spins that found some
    std::uint64_t spins_wasted = 0;    // spins that found none; a timer's end counts as neither
    std::uint64_t timers_armed = 0;    // now
    std::uint64_t errors_reported = 0; // children's errors that went to a report() policy
    // Waits that threw `cancelled` once more in a fiber that had caught it and had not rethrown it.
    // In debug mode the fiber is named on stderr.
    std::uint64_t cancels_swallowed = 0;
    latency_histogram cancel_latency{}; // of scopes: from the cancel until they were left
};

// The statistics of the calling thread's scheduler. Threads: those with a scheduler. Cost: a copy.
[[nodiscard]] scheduler_statistics statistics() noexcept;

// A line for the main fiber, which is the function given to io::run, with what it waits for. Then a
// line for each child task below it, with name, number and spawn site as well, and a line for each
// Boost fiber that waits in a creel call.
// Threads: those with a scheduler. Cost: walks all of them.
[[nodiscard]] std::string list_fibers();

// True on a thread that is inside a run.
[[nodiscard]] bool on_scheduler() noexcept;

// True if the calling thread's run is in debug mode, by its options or by CREEL_DEBUG.
// Threads: those with a scheduler.
[[nodiscard]] bool in_debug_mode() noexcept;

namespace detail {
// `error`: what body has ended with, once it has returned. Throws: deadlock, unless that is an
// error of its own.
void run_on(poller& outside, const scheduler_options& options, const std::function<void()>& body,
            const std::exception_ptr& error);

// Calls f here. On a thread that is ending, where no run is possible any more, it calls f on a
// thread made for it, which sees the local<T>s of the caller, and waits.
// Throws: what f throws; std::system_error if no thread can be started.
void on_living_thread(const std::function<void()>& f);
} // namespace detail

// Runs f as the main fiber of a scheduler on this thread, until f, every fiber, and every creel
// call of a Boost fiber have ended. Returns f's value or throws its error. It must not be called
// inside another run. The poller must outlive the run. During the run the thread's Boost.Fiber
// algorithm is ours. Afterwards it is a new round_robin, whatever it was before, because Boost
// cannot tell which algorithm that was. exit() inside a run aborts: return from f instead. A thread
// that has had a run and is ending (after main, in the destructor of a global object or of a
// thread_local, or in an atexit function) can have no other run. Then the run and the poller work
// on a thread made for the run, while this thread waits. Scopes that the thread is in when it calls
// run_scheduler have no effect inside, where f is the root: give f a scope of its own. (Their
// deadlines would need this run's timers, and their cancels its inbox.)
// Threads: any, from its main stack (not from inside a Boost fiber). Throws: what f throws;
// std::system_error if options.trace cannot be written; std::bad_alloc. Cost: about 0.15 ms.
template <typename F>
auto run_scheduler(poller& outside, const scheduler_options& options, F&& f)
    -> detail::plain_result<F> {
    std::exception_ptr error;
    std::optional<detail::filled_result<F>> value;
    const auto body = [&] {
        try {
            detail::fill(value, f);
        } catch (...) {
            error = std::current_exception();
        }
    };
    detail::run_on(outside, options, body, error);
    if (error)
        std::rethrow_exception(error);
    return detail::unfilled<detail::plain_result<F>>(value);
}

} // namespace creel
