// The typed half of every queue: what is done with the items. See sync/queue.hpp for the contract.
//
// Under the lock, at any time: poppers wait only while the store is empty and no pusher waits, and
// pushers only while the store is full. So a pushed item goes straight to the popper who has waited
// longest, a pop lets the pusher in who has waited longest, and nobody who comes later can get
// between them. (The nodes of a select break this only where it was claimed elsewhere: then nobody
// is behind them who could go.)
#pragma once

#include <creel/sync/detail/queue_core.hpp>

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

// Where a popper wants its item: in a new object, or in one it has.
template <typename T>
struct pop_slot {
    std::optional<T>* fresh;
    T* existing = nullptr;

    void put(T&& item) {
        if constexpr (std::is_move_assignable_v<T>) {
            if (existing != nullptr) {
                *existing = std::move(item);
                return;
            }
        }
        fresh->emplace(std::move(item));
    }
};

template <std::integral N>
std::size_t checked_capacity(N capacity, const char* what, std::source_location made_at) {
    if constexpr (std::signed_integral<N>)
        if (capacity < 0)
            negative_capacity(what, made_at);
    return static_cast<std::size_t>(capacity);
}

template <typename T, typename Store, typename F>
struct pop_case;
template <typename T, typename Store, typename F>
struct push_case;

template <typename T, typename Store>
class basic_queue {
    static_assert(std::is_move_constructible_v<T> && std::is_nothrow_destructible_v<T>);

public:
    using value_type = T;
    class iterator;

    basic_queue(const basic_queue&) = delete;
    basic_queue& operator=(const basic_queue&) = delete;

    // False once the queue is closed; the argument is then not moved from, nor when it throws.
    // Parks: while it is full, first come first served; with capacity 0 until a pop takes the item.
    // Cancel: yes, the item is not in the queue then. Threads: any. Throws: cancelled; what moving
    // the item in throws; std::bad_alloc when it must grow and cannot, and the item is not in it
    // then. Cost: a spinlock and a move, and a wake if somebody waits for an item.
    [[nodiscard]] bool push(T&& item) {
        check_cancel();
        core_.guard.lock();
        if (!can_store()) [[unlikely]]
            return push_slowly(item);
        const std::lock_guard hold{core_.guard, std::adopt_lock};
        store(item);
        return true;
    }
    [[nodiscard]] bool push(const T& item)
        requires std::copy_constructible<T>
    {
        return push(T(item));
    }

    // Empty once the queue is closed and drained.
    // Parks: while it is empty, first come first served. Cancel: yes, no item is lost by it: one
    // that was handed over in the same instant is returned. Threads: any. Throws: cancelled; what
    // moving the item out throws, and it is in the queue still; with capacity 0 that is thrown by
    // the push, and this waits on. Cost: as push.
    [[nodiscard]] std::optional<T> pop() {
        std::optional<T> item; // the one that is returned: an item in it is not moved again
        pop_into(item);
        return item;
    }

    // Assigns as many items as there are, but waits for the first. The number; 0 once the queue is
    // closed and drained (or if there is room for none). What is assigned over ends with the lock
    // free, unless moves of T may throw: then it must not touch the queue when it ends.
    // Parks, Cancel, Threads, Throws: as pop. Cost: one spinlock for all of them; one for each 16
    // if they are not trivially destructible.
    [[nodiscard]] std::size_t pop_some(std::span<T> items)
        requires std::is_move_assignable_v<T>
    {
        check_cancel();
        if (items.empty())
            return 0;
        if constexpr (moves_safely && !std::is_trivially_destructible_v<T>) {
            return pop_in_batches(items);
        } else {
            const auto place = [&](std::size_t i) { return pop_slot<T>{nullptr, &items[i]}; };
            wake_batch to_wake;
            std::unique_lock hold{core_.guard};
            if (const std::size_t count = take_ready(items.size(), place, to_wake); count != 0)
                return count;
            return wait_for_item(place(0), hold, to_wake) ? 1 : 0;
        }
    }

    // False when it is full or closed; the argument is then not moved from.
    // Parks: never. Cancel: no. Threads: any. Throws: what moving the item throws; std::bad_alloc.
    [[nodiscard]] bool try_push(T&& item) {
        wake_batch to_wake;
        std::unique_lock hold{core_.guard};
        return push_or_grow(item, hold, to_wake);
    }
    [[nodiscard]] bool try_push(const T& item)
        requires std::copy_constructible<T>
    {
        return try_push(T(item));
    }
    // Empty when there is no item; closed() tells whether one may come.
    // Parks: never. Cancel: no. Threads: any. Throws: what moving the item throws.
    [[nodiscard]] std::optional<T> try_pop() {
        wake_batch to_wake;
        std::optional<T> item;
        const std::lock_guard hold{core_.guard};
        pop_at_once({&item}, to_wake);
        return item;
    }

    // No item comes in any more: blocked pushers get false. What is in it can still be popped.
    // Parks: never. Threads: any. Idempotent.
    void close() noexcept { core_.close(); }

    // The same, and what is in it is dropped and counted done. How many that were. A join() that
    // waits returns when the dropped items have ended; one that begins meanwhile may be earlier.
    // Parks: never. Threads: any.
    std::size_t close(discard_t) noexcept {
        wake_batch to_wake;
        Store dropped; // its items end when the lock is free again, and before join() returns
        const std::lock_guard hold{core_.guard};
        dropped.swap(store_);
        core_.close(to_wake);
        core_.drop(dropped.size(), to_wake);
        return dropped.size();
    }

    // An item that was popped has been dealt with. More often than items were pushed is a bug, and
    // is caught. Parks: never. Threads: any.
    void task_done() noexcept { core_.task_done(); }

    // Parks: until task_done() was called for every item that was pushed, as in asyncio.
    // Cancel: yes. Threads: any. Throws: cancelled.
    void join() { core_.join(); }

    // for (T& item : queue): pops until the queue is closed and drained; see pop().
    [[nodiscard]] iterator begin() { return iterator{*this}; }
    [[nodiscard]] std::default_sentinel_t end() noexcept { return {}; }

    // Of this instant. Parks: never. Threads: any.
    [[nodiscard]] std::size_t capacity() const noexcept { return core_.capacity; }
    [[nodiscard]] std::size_t size() const noexcept {
        const std::lock_guard hold{core_.guard};
        return store_.size();
    }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }
    [[nodiscard]] bool closed() const noexcept {
        const std::lock_guard hold{core_.guard};
        return core_.closed;
    }
    [[nodiscard]] queue_statistics statistics() const noexcept {
        const std::lock_guard hold{core_.guard};
        return core_.statistics(store_.size());
    }

protected:
    basic_queue(const char* what, std::size_t capacity, std::source_location made_at)
        : core_(what, capacity, made_at), store_(capacity) {}
    ~basic_queue() = default;

private:
    template <typename, typename, typename>
    friend struct pop_case; // select's
    template <typename, typename, typename>
    friend struct push_case;

    using outcome = queue_node::outcome_type;
    static constexpr bool moves_safely =
        std::is_nothrow_move_constructible_v<T> &&
        (std::is_nothrow_move_assignable_v<T> || !std::is_move_assignable_v<T>);

    // All of the rest with the lock held, but for the first two; what is called slow leaves it
    // free.

    void pop_into(std::optional<T>& item) {
        check_cancel();
        core_.guard.lock();
        if (!can_take()) [[unlikely]] {
            pop_slowly({&item});
            return;
        }
        const std::lock_guard hold{core_.guard, std::adopt_lock};
        store_.take([&](T&& taken) { item.emplace(std::move(taken)); });
    }

    // As pop_some, with a stop on the stack, so that no assignment is made under the lock.
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
                std::unique_lock hold{core_.guard};
                got = take_ready(room, place, to_wake, count == 0);
                if (got == 0 && count == 0 && wait_for_item(place(0), hold, to_wake))
                    got = 1;
            }
            for (std::size_t i = 0; i < got; ++i)
                items[count++] = std::move(*taken[i]);
            if (got < room || count == items.size())
                return count;
        }
    }

    [[nodiscard]] bool can_store() const noexcept {
        return store_.has_room() && core_.poppers.empty() && !core_.closed;
    }
    [[nodiscard]] bool can_take() const noexcept {
        return store_.size() != 0 && core_.pushers.empty();
    }
    void store(T& item) {
        store_.push(std::move(item));
        ++core_.entered;
    }

    [[gnu::noinline]] bool push_slowly(T& item) {
        wake_batch to_wake;
        std::unique_lock hold{core_.guard, std::adopt_lock}; // free before the wakes
        if (push_or_grow(item, hold, to_wake))
            return true;
        if (core_.closed)
            return false;
        queue_waiter me{std::addressof(item)};
        core_.pushers.push_back(me);
        hold.unlock();
        return queue_core::wait(me);
    }

    [[gnu::noinline]] bool pop_slowly(pop_slot<T> slot) {
        wake_batch to_wake;
        std::unique_lock hold{core_.guard, std::adopt_lock}; // as in push_slowly
        return pop_at_once(slot, to_wake) || wait_for_item(slot, hold, to_wake);
    }

    // There is none. `to_wake` may have pushers whose move has thrown.
    bool wait_for_item(pop_slot<T> slot, std::unique_lock<wait_lock>& hold, wake_batch& to_wake) {
        if (core_.closed)
            return false;
        queue_waiter me{&slot};
        core_.poppers.push_back(me);
        hold.unlock();
        if (!to_wake.empty()) [[unlikely]]
            to_wake.wake_all();
        return queue_core::wait(me);
    }

    // False: it is closed, or full.
    bool push_or_grow(T& item, std::unique_lock<wait_lock>& hold, wake_batch& to_wake) {
        while (!push_at_once(item, to_wake)) {
            if (core_.closed || !store_.can_grow())
                return false;
            grow(hold);
        }
        return true;
    }

    // Allocates with the lock free, so the caller must look again at everything.
    [[gnu::noinline]] void grow(std::unique_lock<wait_lock>& hold) {
        const std::size_t items = store_.growth();
        hold.unlock();
        typename Store::room more = Store::make_room(items);
        hold.lock();
        if (store_.add(more))
            return;
        hold.unlock(); // to free it
        more = {};
        hold.lock();
    }

    // False also if it must grow first.
    bool push_at_once(T& item, wake_batch& to_wake) {
        if (core_.closed)
            return false;
        if (give_to_popper(item, to_wake))
            return true;
        if (!store_.has_room())
            return false;
        store(item);
        return true;
    }

    bool pop_at_once(pop_slot<T> slot, wake_batch& to_wake) {
        if (store_.size() != 0) {
            store_.take([&](T&& item) { slot.put(std::move(item)); });
            refill(to_wake);
            return true;
        }
        const auto put = [&](T& item) {
            slot.put(std::move(item));
            ++core_.entered;
        };
        while (auto* pusher = static_cast<queue_node*>(core_.pushers.take_front()))
            if (take_from(*pusher, put, to_wake))
                return true;
        return false;
    }

    // To the first popper; false if none waits. The item is moved before the node is taken, so that
    // nothing has happened when the move throws; a node of a select must be claimed first, and then
    // tries again.
    bool give_to_popper(T& item, wake_batch& to_wake) {
        while (auto* popper = core_.first_popper()) {
            if (popper->shared && !core_.poppers.take(*popper))
                continue;
            auto& slot = *static_cast<pop_slot<T>*>(popper->item);
            if constexpr (moves_safely) {
                slot.put(std::move(item));
            } else {
                try {
                    slot.put(std::move(item));
                } catch (...) {
                    if (popper->shared) {
                        popper->outcome = outcome::again;
                        to_wake.add(*popper);
                    }
                    throw;
                }
            }
            if (!popper->shared)
                static_cast<void>(core_.poppers.take(*popper));
            popper->outcome = outcome::moved;
            ++core_.entered;
            to_wake.add(*popper);
            return true;
        }
        return false;
    }

    // There is room: the first pushers' items come in.
    void refill(wake_batch& to_wake) noexcept {
        const auto put = [&](T& item) { store(item); };
        while (store_.has_room()) {
            auto* pusher = static_cast<queue_node*>(core_.pushers.take_front());
            if (pusher == nullptr)
                return;
            take_from(*pusher, put, to_wake);
        }
    }

    // From a pusher that is off its list. What a move of its item throws is its own, and nobody
    // else's: else it would stand in the way of all behind it.
    template <typename Put>
    static bool take_from(queue_node& pusher, Put& put, wake_batch& to_wake) noexcept {
        to_wake.add(pusher);
        try {
            put(*static_cast<T*>(pusher.item));
            pusher.outcome = outcome::moved;
            return true;
        } catch (...) {
            pusher.error = std::current_exception();
            pusher.outcome = outcome::failed;
            return false;
        }
    }

    // What can be had without waiting, into place(0), place(1)... An error counts only if it comes
    // first: it will come again.
    template <typename Place>
    std::size_t take_ready(std::size_t most, Place& place, wake_batch& to_wake, bool first = true) {
        std::size_t count = 0;
        try {
            while (count < most && pop_at_once(place(count), to_wake))
                ++count;
        } catch (...) {
            if (first && count == 0)
                throw;
        }
        return count;
    }

    queue_core core_;
    Store store_; // guarded by core_.guard
};

// Pops one item a step; at the end once the queue is closed and drained.
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
