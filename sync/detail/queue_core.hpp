// The untyped half of every queue: its waiters, whether it is closed, and the count that join()
// waits for. The typed half (item_exchange.hpp, basic_queue.hpp) has the items.
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <source_location>
#include <string>

namespace creel::sync {

struct queue_statistics {
    std::size_t capacity = 0;
    std::size_t size = 0;         // items in it now
    std::uint64_t pushed = 0;     // ever, including items handed straight to a popper
    std::uint64_t dropped = 0;    // by close(discard)
    std::uint64_t unfinished = 0; // pushed - dropped - task_done(); join() waits until it is 0
    std::size_t pushers = 0;      // pushes that wait now
    std::size_t poppers = 0;
    std::size_t joiners = 0;
    bool closed = false;
};

// For close(discard).
struct discard_t {
    explicit discard_t() = default;
};
inline constexpr discard_t discard{};

namespace detail {

struct queue_core;

// A waiter at a queue: a popper with room for an item, or a pusher with an item to give.
struct queue_node : wait_node {
    // The meaning of the wake. `again`: the move of the item has thrown in the pusher, so nothing
    // has happened; only for a popper of a select, which must be claimed before the move.
    enum class outcome_type : std::uint8_t { closed, moved, failed, again };

    queue_node(waiter& who, void* what, wait_claim* claim = nullptr) noexcept
        : wait_node(who, claim), item(what), shared(claim != nullptr) {}

    void* item;                 // popper: its pop_slot<T>; pusher: its T
    std::exception_ptr error{}; // with `failed`, for the pusher: the error of moving its item
    outcome_type outcome = outcome_type::closed; // guarded by the lock, until the wake
    const bool shared; // one of several nodes of a select: claim it, then move the item
};

// The waiter of a blocking push or pop.
class queue_waiter final : public waiter, public queue_node {
public:
    explicit queue_waiter(void* what) noexcept
        : waiter(kind), queue_node(static_cast<waiter&>(*this), what) {}

private:
    static withdrawal withdraw(waiter& w, wake_reason why) noexcept;
    static void describe(const waiter& w, std::string& text);
    static void add_details(const waiter& w, std::string& text);
    static const waiter_kind kind;
};

// The poppers wait while there is no item, the pushers while there is no room.
struct queue_list : wait_list {
    queue_list(wait_lock& guard, const queue_core& q, bool of_pushers) noexcept
        : wait_list(guard), of(q), is_of_pushers(of_pushers) {}
    const queue_core& of;
    const bool is_of_pushers;
};

// All members are guarded by `guard`, which each function takes unless it says otherwise.
struct queue_core {
    queue_core(const char* what, std::size_t room, std::source_location made_at) noexcept
        : guard(what, made_at), capacity(room) {}

    // Parks a waiter that is in one of the lists; the lock is free. True: the item was moved;
    // false: the queue was closed. Throws: cancelled; the error of moving a pusher's item.
    static bool wait(queue_waiter& me) {
        if (park(me) == wake_reason::cancelled) [[unlikely]]
            throw_cancelled();
        if (me.error != nullptr) [[unlikely]]
            std::rethrow_exception(me.error);
        return me.outcome == queue_node::outcome_type::moved;
    }

    void close() noexcept;
    void task_done() noexcept;
    void join();
    [[nodiscard]] queue_statistics statistics(std::size_t size) const noexcept; // lock held

    // With the lock held.
    void close(wake_batch& to_wake) noexcept;
    void drop(std::size_t count, wake_batch& to_wake) noexcept;
    [[nodiscard]] queue_node* first_popper() const noexcept {
        return static_cast<queue_node*>(poppers.front());
    }

    mutable wait_lock guard;
    bool closed = false;
    std::size_t capacity;
    std::uint64_t entered = 0; // items that ever came in
    std::uint64_t done = 0;    // task_done(), and dropped
    std::uint64_t dropped = 0;
    queue_list poppers{guard, *this, false};
    queue_list pushers{guard, *this, true};
    wait_list joiners{guard};
};

[[noreturn]] void negative_capacity(const char* what, std::source_location made_at) noexcept;

template <std::integral N>
std::size_t checked_capacity(N capacity, const char* what, std::source_location made_at) {
    if constexpr (std::signed_integral<N>)
        if (capacity < 0)
            negative_capacity(what, made_at);
    return static_cast<std::size_t>(capacity);
}

} // namespace detail
} // namespace creel::sync
