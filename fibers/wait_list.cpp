#include <creel/fibers/wait_list.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/cancel/audit.hpp>
#include <creel/fibers/detail/system/futex.hpp>
#include <creel/fibers/detail/system/relax_core.hpp>

#include <array>
#include <chrono>
#include <linux/membarrier.h>
#include <mutex>
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

// A barrier on every processor that runs a thread of this process; see membarrier(2). It is asked
// for at start-up, while there is one thread: later that takes the kernel milliseconds. Where it is
// refused (a kernel built without, seccomp) a sleeper looks again after this time.
const bool barriers_are_had =
    syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
constexpr auto time_without_barriers = std::chrono::milliseconds{1};

bool barrier_on_all_processors() noexcept {
    return barriers_are_had && syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

constexpr int turns_before_sleep = 100;

// In a forked child nobody sleeps. Fails only without memory, as the program starts.
[[maybe_unused]] const int forgets_sleepers_in_forks = ::pthread_atfork(nullptr, nullptr, [] {
    detail::all_lock_sleepers.count.store(0);
    for (std::atomic<std::uint32_t>& here : sleepers_by_lock)
        here.store(0);
});

} // namespace

// No wake is lost between this and unlock(). We count ourselves, and then have a barrier on every
// processor, on the one that unlocks between its store and its load, or before or after both. If
// not before its store, then its load sees our count, and it wakes us; otherwise we see its store:
// in the exchange, or the kernel does when it compares the word. Asymmetric, so that the unlock
// needs no barrier: "Asymmetric Fences", P1202, 2018.
void wait_lock::lock_slowly() noexcept {
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

// One at a time: it wakes the next when it unlocks, for that one is counted still.
void wait_lock::wake_sleeper(const wait_lock& unlocked) noexcept {
    if (sleepers_at(&unlocked).load(std::memory_order_relaxed) != 0)
        detail::futex_wake_one(unlocked.held_);
}

void wait_lock::withdrawal_is_late() noexcept {
    late_.store(late_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

// The destructor that it may wake needs the lock, too, before it goes on.
void wait_lock::late_withdrawal_came() noexcept {
    late_.store(late_.load(std::memory_order_relaxed) - 1, std::memory_order_release);
    detail::futex_wake_all(late_);
}

void wait_lock::await_withdrawals() noexcept {
    while (const std::uint32_t late = late_.load(std::memory_order_acquire))
        detail::futex_wait(late_, late);
    lock(); // the last of them has let go of it then
    unlock();
}

// How a withdrawal finds the lock of a list that others may end. The waiter's thread pins the node,
// which succeeds only while it is linked, so the lock is there; whoever takes it off after that
// tells the lock, which then stays until we have been there. Acquires also where it reads 0: the
// thread that took the node off has let go of it, and of the claim, which may end now.
wait_lock* wait_node::pin() const noexcept {
    place seen = place_.load(std::memory_order_acquire);
    while (seen != 0 &&
           !place_.compare_exchange_weak(seen, seen | pinned, std::memory_order_acquire)) {
    }
    return reinterpret_cast<wait_lock*>(seen);
}

void wait_node::unpin(wait_lock& lock) const noexcept {
    place seen = place_at(lock) | pinned;
    if (place_.compare_exchange_strong(seen, place_at(lock), std::memory_order_release,
                                       std::memory_order_relaxed))
        return;
    const std::lock_guard hold{lock};
    place_.store(0, std::memory_order_relaxed);
    lock.late_withdrawal_came();
}

wait_list* wait_node::leave_list() noexcept {
    wait_lock* const lock = pin();
    if (lock == nullptr)
        return nullptr;
    lock->lock();
    const place seen = place_.load(std::memory_order_relaxed);
    place_.store(0, std::memory_order_relaxed);
    if ((seen & taken) != 0) {
        lock->late_withdrawal_came();
        lock->unlock();
        return nullptr;
    }
    list_->unlink(*this);
    return list_;
}

void wait_node::say_taken(wait_lock& lock) noexcept {
    place seen = place_.load(std::memory_order_relaxed);
    while (!place_.compare_exchange_weak(seen, (seen & pinned) != 0 ? seen | taken : 0,
                                         std::memory_order_release, std::memory_order_relaxed)) {
    }
    if ((seen & pinned) != 0)
        lock.withdrawal_is_late();
}

void wait_node::describe_list(std::string& text) const {
    if (wait_lock* at = pin()) {
        const wait_label label = at->label();
        unpin(*at);
        text += label.text();
    } else {
        text += "its turn, which has come";
    }
}

// The next one is read first: a woken waiter may be gone at once.
void wake_batch::wake_all() noexcept {
    waiter* next = first_;
    first_ = nullptr;
    last_ = nullptr;
    while (next != nullptr) {
        waiter& who = *next;
        next = after(who);
        wake(who);
    }
}

bool wait_list::take_unlinked(wait_node& node) noexcept {
    const bool is_taken = node.claim_ == nullptr || node.claim_->try_claim(&node);
    node.say_taken(*guard_); // last: else its waiter may end it at once
    return is_taken;
}

wait_node* wait_list::take_front_slowly() noexcept {
    while (wait_node* taken = first_) {
        unlink_front();
        if (take_unlinked(*taken))
            return taken;
    }
    return nullptr;
}

std::size_t wait_list::requeue(wait_list& to, std::size_t most) noexcept {
    CREEL_ASSERT(guard_ == to.guard_, guard_->says("requeued to a list of another lock").c_str());
    std::size_t moved = 0;
    for (; moved < most && first_ != nullptr; ++moved) {
        wait_node& node = *first_;
        unlink_front();
        to.link(node);
    }
    return moved;
}

void wait_list::destroyed_while_waited_on() const noexcept {
    std::string text = "destroyed while somebody waits on it"; // and as much more as can be said
    try {
        text += ", " + name_of_waiting(first_->who()) +
                ": declare it outside with_nursery, or join() the nursery before it goes";
    } catch (const std::bad_alloc&) {
    }
    text = guard_->says(text.c_str());
    assertion_failed("nobody waits", text.c_str(), std::source_location::current());
}

// Whoever took it off its list hands it something: its wake is on the way.
withdrawal list_waiter::withdraw(waiter& w, wake_reason) noexcept {
    auto& self = static_cast<list_waiter&>(w);
    wake_batch to_wake;
    wait_list* from = self.leave_list();
    if (from == nullptr)
        return withdrawal::pending;
    const std::lock_guard hold{from->guard(), std::adopt_lock};
    if (const auto left = static_cast<const wait_kind&>(self.kind()).left; left != nullptr)
        left(self, *from, to_wake);
    return withdrawal::withdrawn;
}

void list_waiter::describe(const waiter& w, std::string& text) {
    static_cast<const list_waiter&>(w).describe_list(text);
}

} // namespace creel
