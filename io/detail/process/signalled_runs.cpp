#include <creel/io/detail/process/signalled_runs.hpp>

#include <creel/fibers/fork_guard.hpp>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <mutex>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace creel::io::detail {
namespace {

constexpr signal_set ending_signals = set_of(SIGINT) | set_of(SIGTERM);

// Guarded by the mutex.
struct run_group {
    unsigned runs = 0;
    unsigned raisers = 0;      // how many of the runs raise a signal again
    bool raise_wanted = false; // the signal has reached a raiser that has left
    bool raising = false;      // the last run has left, and raises the signal
};
std::mutex group_mutex;
run_group current_group;
// The handler reads these two.
std::atomic<pid_t> group_process{0}; // the group belongs to this process
std::atomic<int> first_signal{0};    // the first that has reached the group
// The futex of wait_until_raised(): how often the group has reached transition 3 or 5.
std::atomic<std::uint32_t> times_ended{0};
std::atomic<unsigned> threads_waiting{0};
static_assert(std::atomic<std::uint32_t>::is_always_lock_free &&
              sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));

// fork() takes the locks in the reverse order of their registration. The dispatcher is called under
// this lock, so fork() must take this lock first, and the dispatcher's is registered first.
const fork_guard group_in_forks{(register_signals_for_forks(), group_mutex)};

// The gate, which runs in the handler.
bool reaches_the_group(int number) noexcept {
    if (::getpid() != group_process.load())
        return true; // a forked child: no run of its takes part
    int none = 0;
    return first_signal.compare_exchange_strong(none, number);
}

void wake_waiting_threads() noexcept {
    times_ended.fetch_add(1);
    ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&times_ended), FUTEX_WAKE_PRIVATE,
              INT32_MAX, nullptr, nullptr, 0);
}

void explain_wait(unsigned runs) noexcept {
    std::fprintf(
        stderr,
        "creel: io::run threw interrupted for a signal, and the program does not catch it. "
        "The thread waits until %u other run%s drained; then the signal ends the process. "
        "If one of these runs joins this thread, catch io::interrupted in the thread\n",
        runs, runs == 1 ? " has" : "s have");
}

} // namespace

signalled_run::signalled_run(int wake_descriptor, bool raises_again) : raises_again_(raises_again) {
    const std::lock_guard lock{group_mutex};
    if (group_process.load() != ::getpid())
        current_group = {}; // in a forked child: the runs are its parent's
    if (current_group.runs == 0) {
        first_signal.store(0);
        current_group.raise_wanted = false;
        group_process.store(::getpid());
        set_signal_gate(ending_signals, &reaches_the_group);
    }
    watch_.emplace(ending_signals, wake_descriptor);
    ++current_group.runs;
    if (raises_again_)
        ++current_group.raisers;
    received_ = first_signal.load();
}

signalled_run::~signalled_run() {
    if (watch_)
        static_cast<void>(leave());
}

int signalled_run::received() noexcept {
    if (received_ == 0 && watch_)
        received_ = watch_->take();
    return received_;
}

signalled_run::departure signalled_run::leave() noexcept {
    const std::lock_guard lock{group_mutex};
    watch_->end();
    departure result{.received = received()};
    watch_.reset();
    if (group_process.load() != ::getpid())
        return {};
    if (raises_again_) {
        --current_group.raisers;
        current_group.raise_wanted = current_group.raise_wanted || result.received != 0;
    }
    if (--current_group.runs == 0) {
        set_signal_gate(ending_signals, nullptr);
        current_group.raising = current_group.raise_wanted;
        if (current_group.raising)
            result.to_raise = first_signal.load();
        else
            wake_waiting_threads();
    }
    return result;
}

void signal_was_raised() noexcept {
    const std::lock_guard lock{group_mutex};
    current_group.raising = false;
    wake_waiting_threads();
}

void wait_until_raised() noexcept {
    std::uint32_t times = 0;
    {
        const std::lock_guard lock{group_mutex};
        const bool will_be_raised = first_signal.load() != 0 && current_group.runs != 0 &&
                                    (current_group.raise_wanted || current_group.raisers != 0);
        if (group_process.load() != ::getpid() || (!will_be_raised && !current_group.raising))
            return;
        times = times_ended.load();
    }
    threads_waiting.fetch_add(1);
    // One of the other runs may join this thread, and then neither ends: the message names that.
    constexpr timespec patience{.tv_sec = 5, .tv_nsec = 0};
    const timespec* limit = &patience;
    while (times_ended.load() == times) {
        const long result = ::syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&times_ended),
                                      FUTEX_WAIT_PRIVATE, times, limit, nullptr, 0);
        if (result == -1 && errno == ETIMEDOUT) {
            explain_wait(runs_with_signals());
            limit = nullptr;
        }
    }
    threads_waiting.fetch_sub(1);
}

unsigned threads_waiting_for_raise() noexcept {
    return threads_waiting.load();
}

unsigned runs_with_signals() noexcept {
    const std::lock_guard lock{group_mutex};
    return current_group.runs;
}

} // namespace creel::io::detail
