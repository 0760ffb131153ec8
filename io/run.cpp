#include <creel/io/run.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/entry_point.hpp>
#include <creel/io/detail/inspect/inspect_server.hpp>
#include <creel/io/detail/inspect/ring_counters.hpp>
#include <creel/io/detail/process/descriptor_limit.hpp>
#include <creel/io/detail/process/dump_signal.hpp>
#include <creel/io/detail/process/shutdown.hpp>
#include <creel/io/detail/process/signals.hpp>
#include <creel/io/detail/process/standard_descriptors.hpp>
#include <creel/io/detail/ring/ring.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <utility>

namespace creel::io {

interrupted::interrupted(int signal_number)
    : std::runtime_error("interrupted by " + detail::signal_name(signal_number)),
      signal_number_(signal_number) {}

namespace detail {

namespace {

// One run, on the thread that it is on: its ring and its shutdown.
struct run_session {
    run_session(const run_options& o, const std::source_location& w, ring_statistics& l)
        : options(o),
          where(w),
          last(l),
          uring(kernel_ring::take({o.ring_entries, o.completion_entries})),
          shutdown(options, uring.wake_descriptor()) {
        uring.set_supervisor(&shutdown);
        set_current_ring(&uring);
    }
    run_session(const run_session&) = delete;
    run_session& operator=(const run_session&) = delete;

    ~run_session() {
        // Counted before end(), which waits for every operation that it finds. All fibers have
        // ended. An operation that is still under way has outlived its fiber, and the kernel may
        // write to that fiber's stack.
        const ring_statistics now = uring.statistics();
        const std::uint64_t outlived = now.operations_submitted - now.operations_completed;
        CREEL_ASSERT(!debug || outlived == 0,
                     "a fiber resumed before the last completion of its operation");
        uring.end();
        last = uring.statistics();
        last.operations_in_flight = outlived;
        set_current_ring(nullptr);
        if (std::unique_ptr<kernel_ring> sound = uring.give_up_kernel())
            kernel_ring::keep(std::move(sound));
    }

    // Runs main, and waits for the Boost fibers that are left; returns what they failed with.
    std::exception_ptr schedule(entry_point& entry, const std::function<void(entry_point&)>& main);

    const run_options options;
    const std::source_location where; // the call of io::run
    ring_statistics& last;            // gets the ring's counters when it has ended
    ring uring;
    run_shutdown shutdown;
    bool debug = false;
};

std::exception_ptr run_session::schedule(entry_point& entry,
                                         const std::function<void(entry_point&)>& main) {
    scheduler_options scheduling;
    scheduling.stack_bytes = options.stack_bytes;
    scheduling.max_fibers = options.max_fibers;
    scheduling.report_overflow = options.report_overflow;
    scheduling.measure_stacks = options.measure_stacks;
    scheduling.idle_spin = options.idle_spin;
    scheduling.debug = options.debug;
    scheduling.trace = options.trace;
    scheduling.trace_bytes = options.trace_bytes;
    scheduling.began_at = where;
    scheduling.takes_signals = options.on_signal != signal_action::ignore;
    const ring_counters counters{uring};
    scheduling.statistics = &counters;
    // Signals, and the limit of the shutdown, reach whatever runs.
    entry.set_scope_listener([this](cancel_scope* everything) {
        if (everything != nullptr)
            shutdown.covers(*everything);
        else
            shutdown.covers_nothing();
    });
    try {
        run_scheduler(uring, scheduling, [&] {
            debug = in_debug_mode();
            const report_of_stalls stalls{options, debug};
            entry.run([&] { main(entry); });
        });
    } catch (...) {
        return std::current_exception();
    }
    return nullptr;
}

} // namespace

void run_with_ring(const run_options& options, const std::source_location& where,
                   const std::function<void(entry_point&)>& main) {
    ring_statistics& last = last_statistics(); // of this thread
    entry_point entry{where, &let_others_drain};
    entry.on_living_thread([&] {
        CREEL_ASSERT(!on_scheduler() && current_ring() == nullptr,
                     "io::run inside io::run: one run at a time on a thread; spawn into a nursery, "
                     "or use another thread");
        if (options.raise_descriptor_limit)
            raise_descriptor_limit();
        fill_standard_descriptors();
        std::optional<inspect_server> inspected{std::in_place, options.inspect}; // may throw
        auto session = std::make_unique<run_session>(options, where, last);
        std::optional<dump_on_signal> dumps{options}; // the ring has the first descriptors
        const std::exception_ptr error = session->schedule(entry, main);
        session->uring.set_supervisor(nullptr);
        const run_shutdown::outcome how = session->shutdown.drained();
        dumps.reset();
        inspected.reset();
        session.reset(); // before the signal is raised: it may end the process
        end_by_signal(how, error);
        if (error)
            std::rethrow_exception(error);
    });
}

} // namespace detail
} // namespace creel::io
