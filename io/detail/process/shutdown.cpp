#include <creel/io/detail/process/shutdown.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/fibers/trace.hpp>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cxxabi.h>
#include <new>
#include <string>
#include <typeinfo>

namespace creel::io::detail {
namespace {

// Not inlined, because a compiler may keep a thread_local's address across a switch.
[[gnu::noinline]] bool& interrupted_was_thrown_here() noexcept {
    static constinit thread_local bool thrown = false; // since this thread's last run began
    return thrown;
}

// A run's thread may block the signal, which would then stay pending while the process lives on.
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

// task_cancelled and cancelled say only that the run was cut short, which the signal says too.
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

// Without memory for the text a shorter one is printed, and the signal is raised all the same.
void print_before_raise(int number, const std::exception_ptr& error) noexcept {
    try {
        const std::string text = "creel: io::run failed before " + signal_name(number) +
                                 " was raised again: " + describe_exception(error) + '\n';
        std::fputs(text.c_str(), stderr);
    } catch (const std::bad_alloc&) {
        std::fputs("creel: io::run failed before a signal was raised again\n", stderr);
    }
}

[[noreturn]] void give_up() noexcept {
    const std::string text =
        "creel: the shutdown timeout has passed; these fibers have not ended:\n" + list_fibers();
    std::fputs(text.c_str(), stderr);
    write_trace();
    std::abort();
}

// While destructors run for an exception, its type is not known. On a thread whose run has thrown
// interrupted, any such exception counts as that one.
bool ends_by_interrupted() noexcept {
    const std::type_info* const type = abi::__cxa_current_exception_type();
    if (type != nullptr)
        return *type == typeid(interrupted);
    return std::uncaught_exceptions() != 0 && interrupted_was_thrown_here();
}

} // namespace

run_shutdown::run_shutdown(const run_options& options, int wake_descriptor)
    : on_signal_(options.on_signal),
      grace_(options.shutdown_grace),
      timeout_(options.shutdown_timeout) {
    attend = [](supervisor& s) noexcept { static_cast<run_shutdown&>(s).attend_run(); };
    watching = timeout_ != duration::max();
    interrupted_was_thrown_here() = false;
    if (on_signal_ == signal_action::ignore)
        return;
    CREEL_ASSERT(
        timeout_ == duration::max() || grace_ < timeout_,
        "io::run: the shutdown_grace must be shorter than the shutdown_timeout: both count "
        "from the signal, and what the grace cancels needs time to end");
    signals_.emplace(wake_descriptor, on_signal_ == signal_action::raise_again);
}

void run_shutdown::covers(cancel_scope& everything) noexcept {
    everything_ = &everything;
    attend_run(); // a signal may have come before
}

void run_shutdown::attend_run() noexcept {
    if (everything_ == nullptr)
        return;
    if (stage_ == stage::running && signals_)
        if (const int number = signals_->received(); number != 0)
            signal_came(number);
    if (!watching || everything_->reason() == nullptr)
        return;
    const time_point time = now();
    if (deadline == time_point::max())
        deadline = deadline_after(time, timeout_);
    else if (time >= deadline)
        give_up();
}

void run_shutdown::signal_came(int number) noexcept {
    const bool was_cancelled = everything_->cancel_in_effect();
    try {
        everything_->cancel(cancel_reason{cancel_cause::signal, signal_name(number), number},
                            grace_);
        stage_ = was_cancelled ? stage::cancelled_before : stage::cut_short;
    } catch (const std::bad_alloc&) {
        watching = true; // every poll calls attend_run(), and so tries again
    }
}

run_shutdown::outcome run_shutdown::drained() noexcept {
    if (!signals_)
        return {};
    const signalled_run::departure left = signals_->leave();
    signals_.reset();
    const bool keeps_value = on_signal_ == signal_action::raise_again && stage_ != stage::cut_short;
    return {.to_raise = left.to_raise, .interrupted = keeps_value ? 0 : left.received};
}

void end_by_signal(run_shutdown::outcome how, const std::exception_ptr& error) {
    const bool failed = is_real(error);
    if (how.to_raise != 0) {
        if (failed && ends_the_process(how.to_raise))
            print_before_raise(how.to_raise, error);
        raise_again_here(how.to_raise);
        signal_was_raised();
    }
    if (how.interrupted != 0 && !failed) {
        interrupted_was_thrown_here() = true;
        throw interrupted{how.interrupted};
    }
}

void let_others_drain() noexcept {
    if (!on_scheduler() && ends_by_interrupted())
        wait_until_raised();
}

} // namespace creel::io::detail
