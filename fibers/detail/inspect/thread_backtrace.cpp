// Not instrumented: the handler may interrupt any instruction.
#define CREEL_NEVER_INSTRUMENTED
#include <creel/fibers/detail/inspect/thread_backtrace.hpp>

#include <creel/fibers/detail/inspect/kernel_call.hpp>
#include <creel/fibers/detail/system/futex.hpp>
#include <creel/fibers/detail/system/own_memory.hpp>
#include <creel/fibers/fork_guard.hpp>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

#include <link.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

namespace creel::detail {

namespace {

constexpr duration patience_with_a_thread = std::chrono::milliseconds{50};

enum question : std::uint32_t { idle, asked, writing, written };

// The handler touches nothing else. The transitions order the other fields.
struct backtrace_slot {
    std::atomic<std::uint32_t> state{idle};
    std::atomic<int> thread_id{0};
    std::array<code_address, 64> frames{};
    std::size_t count = 0;
};
backtrace_slot asked_thread;
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

// The mutex is held while a thread is asked: without the handler the signal would end the process.
constinit std::mutex backtrace_mutex;
unsigned backtrace_signal_users = 0; // guarded by the mutex, as the next three
unsigned backtrace_generation = 0;
int backtrace_signal_number = 0; // 0: creel has none
struct sigaction action_before {};

void on_backtrace_signal(int /*number*/, siginfo_t* /*info*/, void* context) noexcept {
    const int kept = errno;
    std::uint32_t expected = asked;
    if (asked_thread.thread_id.load() == ::gettid() &&
        asked_thread.state.compare_exchange_strong(expected, writing)) {
        asked_thread.count =
            unwind_interrupted(*static_cast<const ucontext_t*>(context), asked_thread.frames);
        asked_thread.state.store(written);
        futex_wake_all(asked_thread.state);
    }
    errno = kept;
}

// A signal that the program blocks may be one that it waits for with sigwait(3) or signalfd(2).
void take_signal() noexcept {
    sigset_t blocked;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    for (int number = SIGRTMAX; number >= SIGRTMIN; --number) {
        if (sigismember(&blocked, number) == 1 ||
            ::sigaction(number, nullptr, &action_before) != 0 ||
            action_before.sa_handler != SIG_DFL)
            continue;
        struct sigaction ours {};
        ours.sa_sigaction = &on_backtrace_signal;
        // SA_ONSTACK: the stack of a fiber may have no room left.
        ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
        ::sigfillset(&ours.sa_mask);
        if (::sigaction(number, &ours, nullptr) == 0) {
            backtrace_signal_number = number;
            return;
        }
    }
}

// The program may have put another handler there, or none.
bool is_ours(int number) noexcept {
    struct sigaction now {};
    return ::sigaction(number, nullptr, &now) == 0 && now.sa_sigaction == &on_backtrace_signal;
}

void give_signal_back() noexcept {
    const int number = std::exchange(backtrace_signal_number, 0);
    if (number == 0 || !is_ours(number))
        return;
    // A thread that blocks the signal may still have it pending. To ignore it discards it; the
    // default action would end the process.
    struct sigaction ignored {};
    ignored.sa_handler = SIG_IGN;
    ::sigaction(number, &ignored, nullptr);
    ::sigaction(number, &action_before, nullptr);
}

// In a forked child, whose runs take a signal of their own.
void forget_signal_of_parent() noexcept {
    give_signal_back();
    backtrace_signal_users = 0;
    ++backtrace_generation;
    asked_thread.state.store(idle);
}

const fork_guard backtrace_in_forks{backtrace_mutex, &forget_signal_of_parent};

// From here up, as far as there is memory.
std::array<std::byte, 64 * 1024> copied_stack; // guarded by the mutex

std::span<const std::byte> copy_stack(std::uintptr_t from) noexcept {
    constexpr std::size_t page_bytes = 4096;
    std::size_t bytes = 0;
    while (bytes < copied_stack.size()) {
        const std::uintptr_t at = from + bytes;
        const std::size_t part =
            std::min(page_bytes - at % page_bytes, copied_stack.size() - bytes);
        if (!copy_memory(reinterpret_cast<const void*>(at),
                         std::span{copied_stack}.subspan(bytes, part)))
            break;
        bytes += part;
    }
    return std::span{copied_stack}.first(bytes);
}

struct walk_of_copy {
    int thread_id;
    const kernel_call& call;
    std::span<const std::byte> stack;
    std::span<code_address> out;
    std::size_t frames = 0;
    bool left = false; // the call, before the walk
};

// For dl_iterate_phdr(3), which holds the list of libraries: none is unmapped meanwhile. While the
// thread is in the call, the code that it returns to is there; so are its tables then, until the
// end of the walk.
int walk_up_copy(dl_phdr_info* /*first*/, std::size_t /*bytes*/, void* argument) noexcept {
    auto& walk = *static_cast<walk_of_copy*>(argument);
    walk.left = kernel_call_of(walk.thread_id) != walk.call;
    if (!walk.left)
        walk.frames = unwind_copy(walk.call.stack_pointer, walk.call.address, walk.stack, walk.out);
    return 1; // of the list no more is wanted
}

// With the mutex held. Empty if the thread has left the call before its stack was copied.
std::optional<std::size_t> backtrace_of_call(int thread_id, const kernel_call& call,
                                             std::span<code_address> out) noexcept {
    walk_of_copy walk{thread_id, call, copy_stack(call.stack_pointer), out};
    ::dl_iterate_phdr(&walk_up_copy, &walk);
    return walk.left ? std::nullopt : std::optional{walk.frames};
}

// With the mutex held.
std::size_t backtrace_by_signal(int thread_id, std::span<code_address> out) noexcept {
    backtrace_slot& slot = asked_thread;
    slot.thread_id.store(thread_id);
    slot.state.store(asked);
    if (::syscall(SYS_tgkill, ::getpid(), thread_id, backtrace_signal_number) != 0) {
        slot.state.store(idle);
        return 0;
    }
    const time_point end = clock::now() + patience_with_a_thread;
    std::uint32_t seen = asked;
    while ((seen = slot.state.load()) != written) {
        if (seen == asked && clock::now() >= end) {
            if (slot.state.compare_exchange_strong(seen, idle))
                return 0;
            continue;
        }
        futex_wait(slot.state, seen, end);
    }
    const std::size_t count = std::min(slot.count, out.size());
    std::copy_n(slot.frames.begin(), count, out.begin());
    slot.state.store(idle);
    return count;
}

} // namespace

backtrace_signal::backtrace_signal() noexcept {
    const std::lock_guard lock{backtrace_mutex};
    generation_ = backtrace_generation;
    if (backtrace_signal_users++ == 0)
        take_signal();
}

backtrace_signal::~backtrace_signal() {
    const std::lock_guard lock{backtrace_mutex};
    if (generation_ == backtrace_generation && --backtrace_signal_users == 0)
        give_signal_back();
}

std::size_t backtrace_of(int thread_id, std::span<code_address> out) noexcept {
    constexpr int most_looks = 3; // at a thread that goes from one call to another
    const std::lock_guard lock{backtrace_mutex};
    const bool has_signal = backtrace_signal_number != 0 && is_ours(backtrace_signal_number);
    for (int look = 0; look < most_looks; ++look) {
        const std::optional<kernel_call> call = kernel_call_of(thread_id);
        if (call && !(has_signal && goes_on_after_signals(*call))) {
            if (const std::optional<std::size_t> frames = backtrace_of_call(thread_id, *call, out))
                return *frames;
        } else if (call || state_of_thread(thread_id) == 'R') {
            return has_signal ? backtrace_by_signal(thread_id, out) : 0;
        }
    }
    return 0;
}

} // namespace creel::detail
