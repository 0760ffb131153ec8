#include <creel/io/detail/process/shutdown.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <cxxabi.h>
#include <mutex>
#include <new>
#include <string>
#include <typeinfo>

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace creel::io::detail {
namespace {

constexpr signal_set ending_signals = set_of(SIGINT) | set_of(SIGTERM);

// What the runs that take part in signals have in common; guarded by the mutex.
struct signalled_runs {
    unsigned runs = 0;
    unsigned raisers = 0;      // of them, those with raise_again
    bool raise_wanted = false; // the signal has reached one of those that have drained
    bool raising = false;      // the last has drained, and raises it
};
std::mutex runs_mutex;
signalled_runs taking_part;
// The handler reads these two.
std::atomic<pid_t> taking_part_in{0}; // the process
std::atomic<int> first_signal{0};     // since the first of the runs began
// The futex of let_others_drain(): counts the times that the last run has drained, and raised what
// was to be raised.
std::atomic<std::uint32_t> times_drained{0};
std::atomic<unsigned> letting_drain{0};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free &&
              sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));

// A forked child finds the lock free, though another thread might have held it. fork() takes what
// was registered last first: this lock, under which the dispatcher is called, before the
// dispatcher's. Fails only without memory, as the program starts.
[[maybe_unused]] const int runs_in_forks =
    (keep_signals_in_forks(),
     ::pthread_atfork([] { runs_mutex.lock(); }, [] { runs_mutex.unlock(); },
                      [] { runs_mutex.unlock(); }));

// Not inlined, for a compiler may keep a thread_local's address across a switch.
[[gnu::noinline]] bool& interrupted_was_thrown_here() noexcept {
    static constinit thread_local bool thrown = false; // since this thread's last run began
    return thrown;
}

// In the handler. A second signal ends the process at once, so that Ctrl-C twice always does.
bool is_first(int number) noexcept {
    if (::getpid() != taking_part_in.load())
        return true; // a forked child's, where no run takes part
    int none = 0;
    return first_signal.compare_exchange_strong(none, number);
}

void all_have_drained() noexcept {
    times_drained.fetch_add(1);
    ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&times_drained), FUTEX_WAKE_PRIVATE,
              INT32_MAX, nullptr, nullptr, 0);
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

[[noreturn]] void give_up() noexcept {
    const std::string text =
        "creel: the shutdown timeout has passed; these fibers have not ended:\n" + list_fibers();
    std::fputs(text.c_str(), stderr);
    std::abort();
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
    const std::lock_guard lock{runs_mutex};
    if (taking_part_in.load() != ::getpid())
        taking_part = {}; // in a forked child: those are its parent's
    if (taking_part.runs == 0) {
        first_signal.store(0);
        taking_part.raise_wanted = false;
        taking_part_in.store(::getpid());
        set_signal_gate(ending_signals, &is_first);
    }
    watch_.emplace(ending_signals, wake_descriptor);
    ++taking_part.runs;
    if (on_signal_ == signal_action::raise_again)
        ++taking_part.raisers;
    // One that begins after the signal ends like those that were there.
    received_ = first_signal.load();
}

run_shutdown::~run_shutdown() {
    if (watch_)
        static_cast<void>(drained());
}

void run_shutdown::covers(cancel_scope& everything) noexcept {
    everything_ = &everything;
    attend_run(); // a signal may have come first
}

int run_shutdown::received() noexcept {
    if (received_ == 0 && watch_)
        received_ = watch_->take();
    return received_;
}

void run_shutdown::attend_run() noexcept {
    if (everything_ == nullptr)
        return;
    if (!told_)
        if (const int number = received(); number != 0)
            tell(number);
    if (!watching || everything_->reason() == nullptr)
        return;
    const time_point time = now();
    if (deadline == time_point::max())
        deadline = deadline_after(time, timeout_);
    else if (time >= deadline)
        give_up();
}

void run_shutdown::tell(int number) noexcept {
    const bool was_cut = creel::detail::scope_access::sees_cancel(*everything_);
    try {
        everything_->cancel(cancel_reason{cancel_cause::signal, signal_name(number), number},
                            grace_);
        told_ = true;
        cut_short_ = !was_cut;
    } catch (const std::bad_alloc&) {
        watching = true; // again at the next poll
    }
}

run_shutdown::outcome run_shutdown::drained() noexcept {
    outcome how;
    if (!watch_)
        return how;
    const std::lock_guard lock{runs_mutex};
    watch_->end();
    const int number = received();
    watch_.reset();
    if (taking_part_in.load() != ::getpid())
        return how; // a forked child's copy of its parent's run
    const bool raises = on_signal_ == signal_action::raise_again;
    if (raises) {
        --taking_part.raisers;
        taking_part.raise_wanted = taking_part.raise_wanted || number != 0;
    }
    if (--taking_part.runs == 0) {
        set_signal_gate(ending_signals, nullptr);
        taking_part.raising = taking_part.raise_wanted;
        if (taking_part.raising)
            how.to_raise = first_signal.load();
        else
            all_have_drained();
    }
    how.interrupted = raises && !cut_short_ ? 0 : number;
    return how;
}

void end_by_signal(run_shutdown::outcome how, const std::exception_ptr& error) {
    const bool failed = is_real(error);
    if (how.to_raise != 0) {
        if (failed && ends_the_process(how.to_raise))
            tell_before(how.to_raise, error);
        raise_again_here(how.to_raise);
        const std::lock_guard lock{runs_mutex};
        taking_part.raising = false;
        all_have_drained();
    }
    if (how.interrupted != 0 && !failed) {
        interrupted_was_thrown_here() = true;
        throw interrupted{how.interrupted};
    }
}

namespace {

// An exception that is on its way through destructors cannot be asked for its type: so there it is
// any, on a thread whose run has thrown interrupted.
bool ends_by_interrupted() noexcept {
    const std::type_info* const type = abi::__cxa_current_exception_type();
    if (type != nullptr)
        return *type == typeid(interrupted);
    return std::uncaught_exceptions() != 0 && interrupted_was_thrown_here();
}

void tell_of_wait(unsigned runs) noexcept {
    std::fprintf(stderr,
                 "creel: interrupted, which io::run threw for a signal, is caught by nobody. Its "
                 "thread waits until %u other run%s drained, and then the signal ends the process. "
                 "If one of them joins this thread, catch io::interrupted here\n",
                 runs, runs == 1 ? " has" : "s have");
}

} // namespace

void let_others_drain() noexcept {
    if (on_scheduler() || !ends_by_interrupted())
        return;
    std::uint32_t times = 0;
    {
        const std::lock_guard lock{runs_mutex};
        const bool will_be_raised = first_signal.load() != 0 && taking_part.runs != 0 &&
                                    (taking_part.raise_wanted || taking_part.raisers != 0);
        if (taking_part_in.load() != ::getpid() || (!will_be_raised && !taking_part.raising))
            return;
        times = times_drained.load();
    }
    letting_drain.fetch_add(1);
    // A thread that is joined by one of those it waits for is named, once.
    constexpr timespec patience{.tv_sec = 5, .tv_nsec = 0};
    const timespec* limit = &patience;
    while (times_drained.load() == times) {
        const long result = ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&times_drained),
                                      FUTEX_WAIT_PRIVATE, times, limit, nullptr, 0);
        if (result == -1 && errno == ETIMEDOUT) {
            tell_of_wait(runs_with_signals());
            limit = nullptr;
        }
    }
    letting_drain.fetch_sub(1);
}

unsigned threads_letting_drain() noexcept {
    return letting_drain.load();
}

unsigned runs_with_signals() noexcept {
    const std::lock_guard lock{runs_mutex};
    return taking_part.runs;
}

} // namespace creel::io::detail
