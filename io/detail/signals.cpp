#include <creel/io/detail/signals.hpp>
#include <creel/io/error.hpp>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <thread>

#include <pthread.h>
#include <unistd.h>

namespace creel::io::detail {
namespace {

// What the handler may touch: lock-free atomics only.
struct slot {
    std::atomic<int> wake_descriptor{-1}; // -1: free
    std::atomic<int> received{0};
};
constexpr std::size_t most_watches = 1024;
std::array<slot, most_watches> slots;
std::atomic<std::size_t> slots_used{0}; // no slot at or beyond it was ever taken
std::atomic<int> first_signal{0};       // since the handlers were installed
std::atomic<int> handlers_running{0};   // a wake descriptor is closed only after they have left
static_assert(std::atomic<int>::is_always_lock_free);

// A child that was forked and runs no other program inherits the handlers, but no run.
std::atomic<pid_t> installed_in{0};
static_assert(std::atomic<pid_t>::is_always_lock_free);

constexpr std::array watched{SIGINT, SIGTERM};

// Guarded by the mutex.
std::mutex registry_mutex;
// A forked child finds it free, though another thread might have held it. Fails only without
// memory, as the program starts.
[[maybe_unused]] const int is_free_in_forks =
    ::pthread_atfork([] { registry_mutex.lock(); }, [] { registry_mutex.unlock(); },
                     [] { registry_mutex.unlock(); });
std::size_t watches = 0;
bool raise_wanted = false;
struct saved_action {
    bool installed = false;
    struct sigaction before {};
};
std::array<saved_action, watched.size()> saved;

void on_signal(int number);

// A handler that the program has installed meanwhile is its own, and stays.
void restore() noexcept {
    for (std::size_t i = 0; i < watched.size(); ++i) {
        struct sigaction now {};
        if (saved[i].installed && ::sigaction(watched[i], nullptr, &now) == 0 &&
            now.sa_handler == &on_signal)
            ::sigaction(watched[i], &saved[i].before, nullptr);
    }
}

void on_signal(int number) {
    const int saved_errno = errno;
    if (::getpid() != installed_in.load()) {
        restore(); // as if there had never been a run: it strikes when we return
        std::raise(number);
        errno = saved_errno;
        return;
    }
    int none = 0;
    if (!first_signal.compare_exchange_strong(none, number)) {
        // The second: blocked while its handler runs, it strikes when we return.
        std::signal(number, SIG_DFL);
        std::raise(number);
        errno = saved_errno;
        return;
    }
    handlers_running.fetch_add(1);
    const std::size_t used = slots_used.load();
    for (std::size_t i = 0; i < used; ++i) {
        const int descriptor = slots[i].wake_descriptor.load();
        if (descriptor < 0)
            continue;
        slots[i].received.store(number);
        const std::uint64_t one = 1;
        [[maybe_unused]] const ssize_t written = ::write(descriptor, &one, sizeof one);
    }
    handlers_running.fetch_sub(1);
    errno = saved_errno;
}

// In a child that was forked while runs were on: they are not its own.
void forget_parent() noexcept {
    restore();
    for (slot& s : slots)
        s.wake_descriptor.store(-1);
    handlers_running.store(0);
    watches = 0;
}

void install() {
    for (std::size_t i = 0; i < watched.size(); ++i) {
        saved[i].installed = false;
        if (::sigaction(watched[i], nullptr, &saved[i].before) < 0)
            throw_error(errno, "sigaction");
        if (saved[i].before.sa_handler == SIG_IGN)
            continue;
        struct sigaction action {};
        action.sa_handler = &on_signal;
        // Other code's system calls go on. A thread with an alternate stack is spared its small
        // one.
        action.sa_flags = SA_RESTART | SA_ONSTACK;
        sigemptyset(&action.sa_mask);
        if (::sigaction(watched[i], &action, nullptr) < 0)
            throw_error(errno, "sigaction");
        saved[i].installed = true;
    }
}

} // namespace

signal_watch::signal_watch(int wake_descriptor) : slot_(0) {
    const std::lock_guard lock{registry_mutex};
    if (watches != 0 && installed_in.load() != ::getpid())
        forget_parent();
    while (slot_ < most_watches && slots[slot_].wake_descriptor.load() >= 0)
        ++slot_;
    if (slot_ == most_watches)
        throw_error(EAGAIN, "io::run: signals reach at most 1024 runs at one time; let the others "
                            "ignore them (run_options::on_signal)");
    if (watches == 0) {
        first_signal.store(0);
        raise_wanted = false;
        installed_in.store(::getpid());
        install();
    }
    ++watches;
    slots[slot_].received.store(0);
    slots[slot_].wake_descriptor.store(wake_descriptor);
    if (slot_ >= slots_used.load())
        slots_used.store(slot_ + 1);
    // One that begins after the signal ends like those that were there.
    if (const int number = first_signal.load(); number != 0)
        slots[slot_].received.store(number);
}

signal_watch::~signal_watch() {
    if (watching_)
        leave(false);
}

int signal_watch::received() const noexcept {
    return slots[slot_].received.load();
}

signal_watch::outcome signal_watch::leave(bool wants_raise) noexcept {
    watching_ = false;
    const std::lock_guard lock{registry_mutex};
    slots[slot_].wake_descriptor.store(-1);
    // A handler that has read the descriptor has announced itself before (both seq_cst).
    while (handlers_running.load() != 0)
        std::this_thread::yield();
    outcome o;
    o.received = slots[slot_].received.load();
    if (wants_raise && o.received != 0)
        raise_wanted = true;
    if (--watches == 0) {
        restore();
        o.to_raise = raise_wanted ? first_signal.load() : 0;
    }
    return o;
}

} // namespace creel::io::detail
