#include <creel/io/run.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/exception_group.hpp>
#include <creel/io/detail/ring.hpp>
#include <creel/io/detail/signals.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <string>

#include <sys/resource.h>

namespace creel::io {
namespace {

std::string signal_name(int number) {
    const char* abbreviation = ::sigabbrev_np(number);
    return abbreviation != nullptr ? std::string{"SIG"} + abbreviation
                                   : "signal " + std::to_string(number);
}

// A server's clients are descriptors; the soft limit is for programs that use select(2).
void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }
}

// The run's thread may block the signal, which would then stay pending and the process alive.
void raise_again_here(int number) {
    sigset_t unblocked;
    sigset_t before;
    sigemptyset(&unblocked);
    sigaddset(&unblocked, number);
    ::pthread_sigmask(SIG_UNBLOCK, &unblocked, &before);
    std::raise(number);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

bool ends_the_process(int number) {
    struct sigaction now {};
    return ::sigaction(number, nullptr, &now) == 0 && now.sa_handler == SIG_DFL;
}

// That a run was cut short says no more than the signal does.
bool is_real(const std::exception_ptr& error) {
    try {
        if (error)
            std::rethrow_exception(error);
        return false;
    } catch (const task_cancelled&) {
        return false;
    } catch (const cancelled&) {
        return false;
    } catch (...) {
        return true;
    }
}

// The signal is raised all the same where there is no memory for the text.
void tell_before(int number, const std::exception_ptr& error) noexcept {
    try {
        const std::string text = "creel: io::run failed before " + signal_name(number) +
                                 " was raised again: " + describe_exception(error) + '\n';
        std::fputs(text.c_str(), stderr);
    } catch (const std::bad_alloc&) {
        std::fputs("creel: io::run failed before a signal was raised again\n", stderr);
    }
}

} // namespace

interrupted::interrupted(int signal_number)
    : std::runtime_error("interrupted by " + signal_name(signal_number)),
      signal_number_(signal_number) {}

namespace detail {

struct run_session::state : supervisor {
    state(const run_options& o, ring_statistics& l)
        : options(o), last(l), uring(o.ring_entries, o.completion_entries) {
        if (options.on_signal != signal_action::ignore)
            signals.emplace(uring.wake_descriptor());
        attend = [](supervisor& s) noexcept { static_cast<state&>(s).look(); };
        watching = options.shutdown_timeout != duration::max();
        uring.set_supervisor(this);
        set_current_ring(&uring);
    }

    ~state() {
        // Before end(), which waits for whatever it finds. All fibers have ended; an operation of
        // one that is still under way has outlived it, and the kernel may write to its stack.
        const ring_statistics now = uring.statistics();
        const std::uint64_t outlived = now.operations_submitted - now.operations_completed;
        CREEL_ASSERT(!debug || outlived == 0,
                     "a fiber resumed before the last completion of its operation");
        uring.end();
        last = uring.statistics();
        last.operations_in_flight = outlived;
        set_current_ring(nullptr);
    }

    // Cancels everything for a signal, and minds the limit of the shutdown.
    void look() noexcept {
        if (everything == nullptr)
            return;
        if (signals && !cancelled_by_signal) {
            if (const int number = signals->received(); number != 0)
                cancel_for(number);
        }
        if (!watching || everything->reason() == nullptr)
            return;
        const time_point time = uring.now();
        if (deadline == time_point::max())
            deadline = creel::detail::deadline_after(time, options.shutdown_timeout);
        else if (time >= deadline)
            give_up();
    }

    void cancel_for(int number) noexcept {
        try {
            everything->cancel(cancel_reason{cancel_cause::signal, signal_name(number), number});
            cancelled_by_signal = true;
        } catch (const std::bad_alloc&) {
            watching = true; // again at the next poll
        }
    }

    [[noreturn]] static void give_up() noexcept {
        const std::string text =
            "creel: the shutdown timeout has passed; these fibers have not ended:\n" +
            list_fibers();
        std::fputs(text.c_str(), stderr);
        std::abort();
    }

    run_options options;
    ring_statistics& last;
    ring uring;
    std::optional<signal_watch> signals;
    cancel_scope* everything = nullptr;       // the root's, then that of wait_for_natives()
    std::optional<cancel_reason> root_reason; // why the root was cancelled, if it was
    bool cancelled_by_signal = false;
    bool debug = false;
};

run_session::run_session(const run_options& options, ring_statistics& last) {
    CREEL_ASSERT(!on_scheduler() && current_ring() == nullptr,
                 "io::run inside io::run: one run at a time on a thread; spawn into a nursery, or "
                 "use another thread");
    raise_descriptor_limit();
    state_ = std::make_unique<state>(options, last);
}

run_session::~run_session() = default;

std::exception_ptr run_session::schedule(const std::function<void()>& body) {
    std::exception_ptr error;
    try {
        run_scheduler(state_->uring, scheduling(), [&] {
            state_->debug = creel::detail::in_debug_mode();
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
    state_->everything = &root.scope();
    state_->look(); // a signal may have come first
}

void run_session::root_ended(nursery& root) noexcept {
    state_->everything = nullptr;
    if (const cancel_reason* why = root.scope().reason())
        state_->root_reason = *why;
}

// Boost fibers that are inside a creel call: they wait as cancelled as the root was, and signals
// and the limit of the shutdown reach them.
void run_session::wait_for_natives() {
    cancel_scope rest;
    rest.run([&] {
        if (state_->root_reason)
            rest.cancel(*state_->root_reason);
        state_->everything = &rest;
        state_->look();
        creel::detail::drain_natives();
        state_->everything = nullptr;
    });
}

void run_session::finish(std::exception_ptr error) {
    int to_raise = 0;
    int to_throw = 0;
    {
        // The ring goes before the signal is raised, for that may be the end of the process.
        const std::unique_ptr<state> s = std::move(state_);
        s->uring.set_supervisor(nullptr);
        if (s->signals) {
            const bool wants_raise = s->options.on_signal == signal_action::raise_again;
            const signal_watch::outcome o = s->signals->leave(wants_raise);
            to_raise = o.to_raise;
            if (!wants_raise)
                to_throw = o.received;
        }
    }
    if (to_raise != 0) {
        if (is_real(error) && ends_the_process(to_raise))
            tell_before(to_raise, error);
        raise_again_here(to_raise);
    }
    if (to_throw != 0 && !is_real(error))
        throw interrupted{to_throw};
    if (error)
        std::rethrow_exception(error);
}

void run_session_on_living_thread(const run_options& options,
                                  const std::function<void(run_session&)>& body) {
    ring_statistics& last = last_statistics(); // of this thread
    creel::detail::on_living_thread([&] {
        run_session session{options, last};
        session.finish(session.schedule([&] { body(session); }));
    });
}

} // namespace detail
} // namespace creel::io
