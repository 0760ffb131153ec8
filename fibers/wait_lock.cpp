#include <creel/fibers/wait_lock.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/system/futex.hpp>
#include <creel/fibers/detail/system/relax_core.hpp>

#include <array>
#include <chrono>
#include <linux/membarrier.h>
#include <new>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace creel {

std::string wait_label::text() const {
    return std::string{what} + " made at " + made_at.file_name() + ':' +
           std::to_string(made_at.line());
}

std::string wait_lock::says(const char* text) const noexcept {
    try {
        return name() + ": " + text;
    } catch (const std::bad_alloc&) {
        assertion_failed(label_.what, text, label_.made_at);
    }
}

namespace detail {
constinit lock_sleepers all_lock_sleepers;
}

namespace {

// By the lock's address, so that a sleeper costs a system call at the unlocks of few other locks.
constinit std::array<std::atomic<std::uint32_t>, 64> sleepers_by_lock{};

std::atomic<std::uint32_t>& sleepers_at(const void* lock) noexcept {
    return sleepers_by_lock[reinterpret_cast<std::uintptr_t>(lock) / 32 % sleepers_by_lock.size()];
}

// A barrier on every processor that runs a thread of this process; see membarrier(2). The process
// registers for it at start-up, while it has one thread: later that takes the kernel milliseconds.
// Where the kernel refuses it (a kernel built without it, seccomp) a sleeper looks again after this
// time.
const bool barriers_are_had =
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
constexpr auto time_without_barriers = std::chrono::milliseconds{1};

bool barrier_on_all_processors() noexcept {
    return barriers_are_had && syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

constexpr int turns_before_sleep = 100;

// A forked child has one thread, and no thread of it sleeps. Fails only without memory, as the
// program starts.
[[maybe_unused]] const int forgets_sleepers_in_forks = ::pthread_atfork(nullptr, nullptr, [] {
    detail::all_lock_sleepers.count.store(0);
    for (std::atomic<std::uint32_t>& here : sleepers_by_lock)
        here.store(0);
});

} // namespace

// No wake is lost between this function and unlock(). The sleeper counts itself (a), and then has a
// barrier on every processor (b) before it looks at the word (c). The thread that unlocks stores to
// the word (d) and then loads the count (e):
//
//   b falls before d:   e sees the count of a, and that thread wakes the sleeper
//   b falls behind d:   c sees the store of d: in the exchange, or the kernel sees it when it
//                       compares the word
//
// The barrier is asymmetric, so that the unlock needs none: "Asymmetric Fences", P1202, 2018.
void wait_lock::lock_contended() noexcept {
    for (int i = 0; i < turns_before_sleep; ++i) {
        detail::relax_core();
        if (try_lock()) // reads first, so that the waiting cores do not fight for the line
            return;
    }
    std::atomic<std::uint32_t>& here = sleepers_at(this);
    here.fetch_add(1);
    detail::all_lock_sleepers.count.fetch_add(1);
    const bool has_barrier = barrier_on_all_processors();
    while (held_.exchange(1, std::memory_order_acquire) != 0)
        detail::futex_wait(held_, 1,
                           has_barrier ? time_point::max() : clock::now() + time_without_barriers);
    detail::all_lock_sleepers.count.fetch_sub(1);
    here.fetch_sub(1);
}

// Wakes one sleeper. That one is still counted when it unlocks, and then wakes the next.
void wait_lock::wake_sleeper(const wait_lock& unlocked) noexcept {
    if (sleepers_at(&unlocked).load(std::memory_order_relaxed) != 0)
        detail::futex_wake_one(unlocked.held_);
}

void wait_lock::withdrawal_is_late() noexcept {
    late_.store(late_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// The destructor that this may wake needs the lock, too, before it goes on. Release pairs with the
// acquire in the destructor.
void wait_lock::late_withdrawal_came() noexcept {
    late_.store(late_.load(std::memory_order_relaxed) - 1, std::memory_order_release);
    detail::futex_wake_all(late_);
}

void wait_lock::await_withdrawals() noexcept {
    while (const std::uint32_t late = late_.load(std::memory_order_acquire))
        detail::futex_wait(late_, late);
    lock(); // then the last of them has released it
    unlock();
}

} // namespace creel
