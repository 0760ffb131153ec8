// The lock of one primitive: <creel/fibers/wait_list.hpp> shows how it is used.
//
// It guards the state of the primitive and its lists, is held for some instructions, and never over
// a switch. It knows what the primitive is and where it was made, for the dump and for messages.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <atomic>
#include <cstdint>
#include <source_location>
#include <string>

namespace creel {

class wait_node;

// The kind of a primitive, and the place where it was made.
struct wait_label {
    const char* what; // a string literal: "queue"
    std::source_location made_at;

    // "queue made at server.cpp:12". Cost: allocates.
    [[nodiscard]] std::string text() const;
};

namespace detail {
// How many threads sleep until some wait_lock is free. It lies on a line that is hardly ever
// written. It cannot lie in the lock: after its unlock a thread may not touch the lock.
struct alignas(64) lock_sleepers {
    std::atomic<std::uint32_t> count{0};
};
extern constinit lock_sleepers all_lock_sleepers;
} // namespace detail

// A thread that finds the lock held spins for a moment and then sleeps until the lock is free. So a
// holder that the kernel has descheduled gets the processor, whatever the priorities.
//
// The two words of a lock:
//   held_   0 free, 1 held. lock(), try_lock(): 0 -> 1. unlock(): 1 -> 0.
//   late_   withdrawals on their way to the lock, after their waiter was taken. A taker adds one
//           (wait_node::claim_unlinked), the withdrawal subtracts it (wait_node::leave_list, or
//           unpin), both with the lock held. The destructor waits until the word is 0.
//
// No function that may switch is called while it is held. Threads: any. Cost: an exchange to lock,
// a store and a load to unlock: 2.2 ns together, where a futex lock of three states (Drepper,
// "Futexes are tricky", 2011) takes 4.7 for its two atomic operations.
class wait_lock {
public:
    // `what` is a string literal: "queue".
    explicit wait_lock(const char* what,
                       std::source_location made_at = std::source_location::current()) noexcept
        : label_{what, made_at} {}
    wait_lock(const wait_lock&) = delete;
    wait_lock& operator=(const wait_lock&) = delete;

    // Waits for the withdrawals that are still on their way here (see wait_node.hpp), which at most
    // sleep until the lock is free. The words are read in this order, because a withdrawal
    // subtracts itself while it holds the lock.
    ~wait_lock() {
        if (late_.load(std::memory_order_acquire) != 0 ||
            held_.load(std::memory_order_acquire) != 0) [[unlikely]]
            await_withdrawals();
    }

    void lock() noexcept {
        if (held_.exchange(1, std::memory_order_acquire) != 0) [[unlikely]]
            lock_contended();
    }
    [[nodiscard]] bool try_lock() noexcept {
        return held_.load(std::memory_order_relaxed) == 0 &&
               held_.exchange(1, std::memory_order_acquire) == 0;
    }
    // Touches nothing of the lock after the store, because another thread may destroy it then. The
    // processor may read the number of sleepers before it stores; a thread that goes to sleep deals
    // with that (lock_contended).
    void unlock() noexcept {
        held_.store(0, std::memory_order_release);
        std::atomic_signal_fence(std::memory_order_seq_cst); // the compiler keeps the order
        if (detail::all_lock_sleepers.count.load(std::memory_order_relaxed) != 0) [[unlikely]]
            wake_sleeper(*this);
    }

    [[nodiscard]] const wait_label& label() const noexcept { return label_; }

    // "queue made at server.cpp:12". Cost: allocates.
    [[nodiscard]] std::string name() const { return label_.text(); }

    // For CREEL_ASSERT: "queue made at server.cpp:12: " and the text. Cost: allocates; without
    // memory it ends the process itself, as the assertion that has failed would.
    [[nodiscard]] std::string says(const char* text) const noexcept;

private:
    friend class wait_node;

    void lock_contended() noexcept;
    static void wake_sleeper(const wait_lock& unlocked) noexcept; // the lock may be destroyed
    void await_withdrawals() noexcept;
    // Each changes `late_` by one, with the lock held.
    void withdrawal_is_late() noexcept;
    void late_withdrawal_came() noexcept;

    std::atomic<std::uint32_t> held_{0};
    std::atomic<std::uint32_t> late_{0};
    wait_label label_;
};

} // namespace creel
