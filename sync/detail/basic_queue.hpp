// The typed half of every queue: the calls that users see. sync/queue.hpp has the contract, and
// item_exchange.hpp tells how the items move.
#pragma once

#include <creel/sync/detail/item_exchange.hpp>

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <span>
#include <type_traits>
#include <utility>

namespace creel::sync::detail {

struct queue_access; // for select

template <typename T, typename Store>
class basic_queue {
    static_assert(std::is_move_constructible_v<T> && std::is_nothrow_destructible_v<T>);

public:
    using value_type = T;
    class iterator;

    basic_queue(const basic_queue&) = delete;
    basic_queue& operator=(const basic_queue&) = delete;

    // False once the queue is closed. If push returns false or throws, the argument is not moved
    // from.
    // Parks: while the queue is full, first come, first served; with capacity 0 until a pop takes
    // it. Cancel: yes, the item is not in the queue then. Threads: any. Throws: cancelled; the
    // error of moving the item in; std::bad_alloc when the queue must grow and cannot. In each case
    // the item is not in the queue. Cost: the primitive's lock and a move, and a wake if a popper
    // waits.
    [[nodiscard]] bool push(T&& item) {
        check_cancel();
        exchange_.guard.lock();
        if (!exchange_.can_store()) [[unlikely]]
            return exchange_.push_or_wait(item);
        const std::lock_guard hold{exchange_.guard, std::adopt_lock};
        exchange_.store(item);
        return true;
    }
    [[nodiscard]] bool push(const T& item)
        requires std::copy_constructible<T>
    {
        return push(T(item));
    }

    // Empty once the queue is closed and drained.
    // Parks: while the queue is empty, first come, first served. Cancel: yes, and no item is lost:
    // an item that was handed over in the same instant is returned. Threads: any.
    // Throws: cancelled; the error of moving the item out, which is still in the queue then; with
    // capacity 0 the push throws that error, and this pop still waits. Cost: as push.
    [[nodiscard]] std::optional<T> pop() {
        std::optional<T> item; // this object is returned: its item is not moved again
        pop_into(item);
        return item;
    }

    // Assigns as many items as there are, but waits for the first. Returns their number; 0 once the
    // queue is closed and drained (or if `items` is empty). The old value of an element is
    // destroyed with the lock free, unless moves of T may throw: then its destructor must not touch
    // the queue.
    // Parks, Cancel, Threads, Throws: as pop. Cost: the primitive's lock, once for all items; once
    // for each 16 if they are not trivially destructible.
    [[nodiscard]] std::size_t pop_some(std::span<T> items)
        requires std::is_move_assignable_v<T>
    {
        check_cancel();
        if (items.empty())
            return 0;
        if constexpr (moves_safely<T> && !std::is_trivially_destructible_v<T>) {
            return pop_in_batches(items);
        } else {
            const auto place = [&](std::size_t i) { return pop_slot<T>{nullptr, &items[i]}; };
            wake_batch to_wake;
            std::unique_lock hold{exchange_.guard};
            if (const std::size_t count = exchange_.take_ready(items.size(), place, to_wake);
                count != 0)
                return count;
            return exchange_.wait_for_item(place(0), hold, to_wake) ? 1 : 0;
        }
    }

    // False when it is full or closed; the argument is then not moved from.
    // Parks: never. Cancel: no. Threads: any. Throws: the error of moving the item; std::bad_alloc.
    [[nodiscard]] bool try_push(T&& item) {
        wake_batch to_wake;
        std::unique_lock hold{exchange_.guard};
        return exchange_.push_or_grow(item, hold, to_wake);
    }
    [[nodiscard]] bool try_push(const T& item)
        requires std::copy_constructible<T>
    {
        return try_push(T(item));
    }
    // Empty when there is no item; closed() tells whether an item may still come.
    // Parks: never. Cancel: no. Threads: any. Throws: the error of moving the item.
    [[nodiscard]] std::optional<T> try_pop() {
        wake_batch to_wake;
        std::optional<T> item;
        const std::lock_guard hold{exchange_.guard};
        exchange_.pop_at_once({&item}, to_wake);
        return item;
    }

    // From now on no item comes in: pushes that wait return false. Items in the queue can still be
    // popped. Closing a closed queue changes nothing.
    // Parks: never. Threads: any.
    void close() noexcept { exchange_.close(); }

    // The same, and the items in the queue are dropped and counted as done. Returns their number. A
    // join() that waits returns after the dropped items have ended; a join() that begins meanwhile
    // may return earlier.
    // Parks: never. Threads: any.
    std::size_t close(discard_t) noexcept {
        wake_batch to_wake;
        Store dropped; // its items end after the unlock, and before join() returns
        const std::lock_guard hold{exchange_.guard};
        dropped.swap(exchange_.items);
        exchange_.close(to_wake);
        exchange_.drop(dropped.size(), to_wake);
        return dropped.size();
    }

    // Says that the work on a popped item is done. Calling it more often than items were pushed is
    // a bug, and is caught.
    // Parks: never. Threads: any.
    void task_done() noexcept { exchange_.task_done(); }

    // Waits until task_done() was called for every item that was pushed, as in asyncio.
    // Parks: until then. Cancel: yes. Threads: any. Throws: cancelled.
    void join() { exchange_.join(); }

    // for (T& item : queue): pops until the queue is closed and drained; see pop().
    [[nodiscard]] iterator begin() { return iterator{*this}; }
    [[nodiscard]] std::default_sentinel_t end() noexcept { return {}; }

    // These tell the state of one instant. Parks: never. Threads: any.
    [[nodiscard]] std::size_t capacity() const noexcept { return exchange_.capacity; }
    [[nodiscard]] std::size_t size() const noexcept {
        const std::lock_guard hold{exchange_.guard};
        return exchange_.items.size();
    }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    [[nodiscard]] bool closed() const noexcept {
        const std::lock_guard hold{exchange_.guard};
        return exchange_.closed;
    }
    [[nodiscard]] queue_statistics statistics() const noexcept {
        const std::lock_guard hold{exchange_.guard};
        return exchange_.statistics(exchange_.items.size());
    }

protected:
    basic_queue(const char* what, std::size_t capacity, std::source_location made_at)
        : exchange_(what, capacity, made_at) {}
    ~basic_queue() = default;

private:
    friend struct queue_access;

    void pop_into(std::optional<T>& item) {
        check_cancel();
        exchange_.guard.lock();
        if (!exchange_.can_take()) [[unlikely]] {
            exchange_.pop_or_wait({&item});
            return;
        }
        const std::lock_guard hold{exchange_.guard, std::adopt_lock};
        exchange_.items.take([&](T&& taken) { item.emplace(std::move(taken)); });
    }

    // As pop_some. Each item goes through an array on the stack, so that no assignment is made with
    // the lock held.
    std::size_t pop_in_batches(std::span<T> items) {
        constexpr std::size_t most = std::clamp<std::size_t>(1024 / sizeof(T), 1, 16);
        std::size_t count = 0;
        for (;;) {
            std::array<std::optional<T>, most> taken;
            const auto place = [&](std::size_t i) { return pop_slot<T>{&taken[i]}; };
            const std::size_t room = std::min(most, items.size() - count);
            std::size_t got = 0;
            {
                wake_batch to_wake;
                std::unique_lock hold{exchange_.guard};
                got = exchange_.take_ready(room, place, to_wake, count == 0);
                if (got == 0 && count == 0 && exchange_.wait_for_item(place(0), hold, to_wake))
                    got = 1;
            }
            for (std::size_t i = 0; i < got; ++i)
                items[count++] = std::move(*taken[i]);
            if (got < room || count == items.size())
                return count;
        }
    }

    item_exchange<T, Store> exchange_;
};

// Pops one item per step; it is at the end once the queue is closed and drained.
template <typename T, typename Store>
class basic_queue<T, Store>::iterator {
public:
    using value_type = T;
    using difference_type = std::ptrdiff_t;

    explicit iterator(basic_queue& from) : from_(&from) { ++*this; }

    [[nodiscard]] T& operator*() const noexcept { return *item_; }
    iterator& operator++() {
        item_.reset();
        from_->pop_into(item_);
        return *this;
    }
    void operator++(int) { ++*this; }
    [[nodiscard]] bool operator==(std::default_sentinel_t) const noexcept {
        return !item_.has_value();
    }

private:
    basic_queue* from_;
    mutable std::optional<T> item_{};
};

} // namespace creel::sync::detail
