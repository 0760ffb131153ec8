#include <creel/io/detail/process/signals.hpp>

#include <creel/fibers/fork_guard.hpp>
#include <creel/io/error.hpp>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include <unistd.h>

namespace creel::io::detail {
namespace {

// The handler touches lock-free atomics only. All are seq_cst, so a handler that does not see a
// slot was entered before the slot's watch began.
struct slot {
    std::atomic<int> wake_descriptor{-1}; // -1: free
    std::atomic<signal_set> numbers{0};
    std::atomic<signal_set> received{0};
};
constexpr std::size_t most_watches = 2048; // of 1024 runs, with one for dumps each
std::array<slot, most_watches> slots;
std::atomic<std::size_t> slots_used{0}; // no slot at or beyond it was ever taken
std::atomic<int> handlers_running{0};   // a wake descriptor is closed only when this was 0
static_assert(std::atomic<signal_set>::is_always_lock_free);

constexpr std::size_t signal_numbers = 64;
std::array<std::atomic<signal_gate>, signal_numbers> gates{}; // at [number - 1]
static_assert(std::atomic<signal_gate>::is_always_lock_free);

// A forked child that runs no other program inherits the handlers, but it has no watch.
std::atomic<pid_t> installed_in{0};
static_assert(std::atomic<pid_t>::is_always_lock_free);

// Of one signal. Guarded by the mutex, except that the handler in a forked child reads it.
struct action {
    std::size_t watches = 0;
    bool installed = false;
    struct sigaction before {};
};
std::mutex registry_mutex;
std::array<action, signal_numbers> actions; // at [number - 1]
std::size_t watches = 0;

void on_signal(int number);

template <typename Visit>
void for_each_signal(signal_set numbers, Visit visit) {
    for (; numbers != 0; numbers &= numbers - 1)
        visit(std::countr_zero(numbers) + 1);
}
action& action_of(int number) noexcept {
    return actions[static_cast<std::size_t>(number) - 1];
}

// A handler that the program has installed since then stays.
void restore(int number) noexcept {
    action& a = action_of(number);
    struct sigaction now {};
    if (a.installed && ::sigaction(number, nullptr, &now) == 0 && now.sa_handler == &on_signal)
        ::sigaction(number, &a.before, nullptr);
    a.installed = false;
}

void take_default_action(int number) noexcept {
    // The signal is blocked while its handler runs, and takes effect when the handler returns.
    std::signal(number, SIG_DFL);
    std::raise(number);
}

void on_signal(int number) {
    const int saved_errno = errno;
    if (::getpid() != installed_in.load()) {
        restore(number); // as if there had never been a watch; the signal takes effect on return
        std::raise(number);
        errno = saved_errno;
        return;
    }
    handlers_running.fetch_add(1);
    const signal_gate gate = gates[static_cast<std::size_t>(number) - 1].load();
    if (gate != nullptr && !gate(number)) {
        take_default_action(number);
        handlers_running.fetch_sub(1);
        errno = saved_errno;
        return;
    }
    bool marked = false;
    int written_to = -1; // watches that share a descriptor stand for one reader: it is woken once
    const std::size_t used = slots_used.load();
    for (std::size_t i = 0; i < used; ++i) {
        const int descriptor = slots[i].wake_descriptor.load();
        if (descriptor < 0 || (slots[i].numbers.load() & set_of(number)) == 0)
            continue;
        slots[i].received.fetch_or(set_of(number));
        marked = true;
        if (std::exchange(written_to, descriptor) == descriptor)
            continue;
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t written = ::write(descriptor, &one, sizeof one);
    }
    // The last watch has ended since the signal came: the program's own action takes it.
    struct sigaction now {};
    if (!marked && ::sigaction(number, nullptr, &now) == 0 && now.sa_handler != &on_signal)
        std::raise(number);
    handlers_running.fetch_sub(1);
    errno = saved_errno;
}

void install(int number) {
    action& a = action_of(number);
    if (a.watches == 0) {
        if (::sigaction(number, nullptr, &a.before) < 0)
            throw_error(errno, "sigaction for " + signal_name(number));
        if (a.before.sa_handler != SIG_IGN) {
            struct sigaction ours {};
            ours.sa_handler = &on_signal;
            // SA_RESTART: system calls of other code go on. SA_ONSTACK: a thread that has an
            // alternate stack runs the handler there, because its own stack may be small.
            ours.sa_flags = SA_RESTART | SA_ONSTACK;
            sigemptyset(&ours.sa_mask);
            a.installed = true; // set first: the handler may run before sigaction() returns
            if (::sigaction(number, &ours, nullptr) < 0) {
                a.installed = false;
                throw_error(errno, "sigaction for " + signal_name(number));
            }
        }
    }
    ++a.watches;
}

void uninstall(signal_set numbers) noexcept {
    for_each_signal(numbers, [](int number) {
        if (--action_of(number).watches == 0)
            restore(number);
    });
}

void leave_slot(slot& s) noexcept {
    s.wake_descriptor.store(-1);
    // A handler counts itself in handlers_running before it reads the descriptor.
    while (handlers_running.load() != 0)
        std::this_thread::yield();
}

// In a child that was forked during watches: they are the parent's.
void forget_parent() noexcept {
    for_each_signal(~signal_set{0}, [](int number) {
        restore(number);
        action_of(number).watches = 0;
    });
    for (slot& s : slots)
        s.wake_descriptor.store(-1);
    handlers_running.store(0);
    watches = 0;
}

[[maybe_unused]] const int signals_in_forks = (register_signals_for_forks(), 0);

} // namespace

signal_watch::signal_watch(signal_set numbers, int wake_descriptor) : numbers_(numbers) {
    const std::lock_guard lock{registry_mutex};
    if (watches != 0 && installed_in.load() != ::getpid())
        forget_parent();
    while (slot_ < most_watches && slots[slot_].wake_descriptor.load() >= 0)
        ++slot_;
    if (slot_ == most_watches)
        throw_error(EAGAIN, "io::run: signals reach at most 1024 runs at one time; let the others "
                            "ignore them (run_options::on_signal)");
    installed_in.store(::getpid());
    slot& mine = slots[slot_];
    mine.received.store(0);
    mine.numbers.store(numbers);
    mine.wake_descriptor.store(wake_descriptor);
    if (slot_ >= slots_used.load())
        slots_used.store(slot_ + 1);
    signal_set installed = 0;
    try {
        for_each_signal(numbers, [&](int number) {
            install(number);
            installed |= set_of(number);
        });
    } catch (...) {
        leave_slot(mine);
        uninstall(installed);
        throw;
    }
    ++watches;
}

int signal_watch::take() noexcept {
    if (watching_)
        untaken_ |= slots[slot_].received.exchange(0);
    if (untaken_ == 0)
        return 0;
    const int lowest = std::countr_zero(untaken_) + 1;
    untaken_ &= untaken_ - 1;
    return lowest;
}

void signal_watch::end() noexcept {
    if (!watching_)
        return;
    watching_ = false;
    const std::lock_guard lock{registry_mutex};
    if (installed_in.load() != ::getpid())
        return; // a forked child's copy of a watch of its parent's
    --watches;
    uninstall(numbers_); // first: a signal that comes now takes the old action and is not lost
    leave_slot(slots[slot_]);
    untaken_ |= slots[slot_].received.load();
}

bool is_free(int number) noexcept {
    const std::lock_guard lock{registry_mutex};
    struct sigaction now {};
    return ::sigaction(number, nullptr, &now) == 0 &&
           (now.sa_handler == SIG_DFL || now.sa_handler == &on_signal);
}

void set_signal_gate(signal_set numbers, signal_gate gate) noexcept {
    for_each_signal(
        numbers, [gate](int number) { gates[static_cast<std::size_t>(number) - 1].store(gate); });
}

void register_signals_for_forks() noexcept {
    static const fork_guard registry_in_forks{registry_mutex};
}

std::string signal_name(int number) {
    const char* abbreviation = ::sigabbrev_np(number);
    return abbreviation != nullptr ? std::string{"SIG"} + abbreviation
                                   : "signal " + std::to_string(number);
}

} // namespace creel::io::detail
