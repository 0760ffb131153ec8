#include <creel/io/run.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/error_origin.hpp>
#include <creel/io/detail/process/descriptor_limit.hpp>
#include <creel/io/detail/process/shutdown.hpp>
#include <creel/io/detail/process/signals.hpp>
#include <creel/io/detail/process/standard_descriptors.hpp>
#include <creel/io/detail/ring/ring.hpp>

#include <string>

namespace creel::io {

interrupted::interrupted(int signal_number)
    : std::runtime_error("interrupted by " + detail::signal_name(signal_number)),
      signal_number_(signal_number) {}

namespace detail {

struct run_session::state {
    state(const run_options& o, ring_statistics& l)
        : options(o),
          last(l),
          uring(kernel_ring::take({o.ring_entries, o.completion_entries})),
          shutdown(options, uring.wake_descriptor()) {
        uring.set_supervisor(&shutdown);
        set_current_ring(&uring);
    }

    ~state() {
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

    run_options options;
    ring_statistics& last;
    ring uring;
    run_shutdown shutdown;                       // of the root, then of wait_for_natives()
    creel::detail::cancel_request root_cancel{}; // the cancel that the root had when it ended
    bool debug = false;
};

run_session::run_session(const run_options& options, ring_statistics& last) {
    CREEL_ASSERT(!on_scheduler() && current_ring() == nullptr,
                 "io::run inside io::run: one run at a time on a thread; spawn into a nursery, or "
                 "use another thread");
    if (options.raise_descriptor_limit)
        raise_descriptor_limit();
    fill_standard_descriptors();
    state_ = std::make_unique<state>(options, last);
}

run_session::~run_session() = default;

std::exception_ptr run_session::schedule(const std::function<void()>& body) {
    std::exception_ptr error;
    try {
        run_scheduler(state_->uring, scheduling(), [&] {
            state_->debug = in_debug_mode();
            try {
                body();
            } catch (...) {
                error = std::current_exception();
            }
            wait_for_natives();
        });
    } catch (...) {
        error = std::current_exception();
    }
    return error;
}

scheduler_options run_session::scheduling() const noexcept {
    scheduler_options scheduling;
    scheduling.stack_bytes = state_->options.stack_bytes;
    scheduling.max_fibers = state_->options.max_fibers;
    scheduling.report_overflow = state_->options.report_overflow;
    scheduling.measure_stacks = state_->options.measure_stacks;
    scheduling.idle_spin = state_->options.idle_spin;
    scheduling.debug = state_->options.debug;
    return scheduling;
}

void run_session::root_begins(nursery& root) noexcept {
    state_->shutdown.covers(root.scope());
}

void run_session::root_ended(nursery& root) noexcept {
    state_->shutdown.covers_nothing();
    state_->root_cancel = creel::detail::core_of(root.scope()).request_in_sight();
}

// Waits for the Boost fibers that are inside a creel call. Their waits are under a cancel like the
// root's, with the rest of its grace, and signals and the shutdown timeout reach them.
void run_session::wait_for_natives() {
    cancel_scope rest;
    rest.run([&] {
        creel::detail::core_of(rest).request(state_->root_cancel);
        state_->shutdown.covers(rest);
        creel::detail::drain_natives();
        state_->shutdown.covers_nothing();
    });
}

void run_session::finish(std::exception_ptr error) {
    run_shutdown::outcome how;
    {
        // The ring is destroyed before the signal is raised, because the signal may end the
        // process.
        const std::unique_ptr<state> s = std::move(state_);
        s->uring.set_supervisor(nullptr);
        how = s->shutdown.drained();
    }
    end_by_signal(how, error);
    if (error)
        std::rethrow_exception(error);
}

void run_session_on_living_thread(const run_options& options, const std::source_location& where,
                                  const std::function<void(run_session&)>& body) {
    ring_statistics& last = last_statistics(); // of this thread
    creel::detail::uncaught_watch uncaught{&let_others_drain};
    creel::detail::on_living_thread([&] {
        run_session session{options, last};
        const std::exception_ptr error = session.schedule([&] { body(session); });
        uncaught.passes(error, where);
        session.finish(error);
    });
}

} // namespace detail
} // namespace creel::io
