// How a queue's items move: from a push into the store, out of it to a pop, and from hand to hand.
// basic_queue.hpp has the calls that users see; a select uses this too.
//
// Under the lock these hold at any time: poppers wait only while the store is empty and no pusher
// waits, and pushers wait only while the store is full. What a push and a pop do in each state:
//
//     the queue                       push                         pop
//     poppers wait                    gives to the first popper    waits behind them
//     no waiter, store empty          stores                       waits
//     no waiter, some items           stores                       takes from the store
//     no waiter, store full           waits                        takes from the store
//     pushers wait, store full        waits behind them            takes from the store, and lets
//                                                                  the first pusher's item in
//     pushers wait, capacity 0        waits behind them            takes the first pusher's item
//     closed (no pusher waits)        returns false                takes what is in it; then empty
//
// So a pushed item goes straight to the popper that has waited longest, a pop lets in the pusher
// that has waited longest, and no later call can get between them. (The nodes of a select break
// this only where the select was claimed elsewhere: then no waiter that could go is behind them.)
#pragma once

#include <creel/sync/detail/pop_slot.hpp>
#include <creel/sync/detail/queue_core.hpp>

#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <utility>

namespace creel::sync::detail {

// Every function is called with the lock held, and returns with it held unless it says otherwise.
template <typename T, typename Store>
struct item_exchange : queue_core {
    using outcome = queue_node::outcome_type;

    item_exchange(const char* what, std::size_t room, std::source_location made_at)
        : queue_core(what, room, made_at), items(room) {}

    // The usual cases: no party waits, and there is room or an item.
    [[nodiscard]] bool can_store() const noexcept {
        return items.has_room() && poppers.empty() && !closed;
    }
    [[nodiscard]] bool can_take() const noexcept { return items.size() != 0 && pushers.empty(); }
    void store(T& item) {
        items.push(std::move(item));
        ++entered;
    }

    // The rest of a push, whatever the queue's state. Returns with the lock free. False: closed.
    [[gnu::noinline]] bool push_or_wait(T& item) {
        wake_batch to_wake;
        std::unique_lock hold{guard, std::adopt_lock}; // free before the wakes
        if (push_or_grow(item, hold, to_wake))
            return true;
        if (closed)
            return false;
        queue_waiter me{std::addressof(item)};
        pushers.push_back(me);
        hold.unlock();
        return wait(me);
    }

    // The rest of a pop. Returns with the lock free. False: closed and drained.
    [[gnu::noinline]] bool pop_or_wait(pop_slot<T> slot) {
        wake_batch to_wake;
        std::unique_lock hold{guard, std::adopt_lock}; // as in push_or_wait
        return pop_at_once(slot, to_wake) || wait_for_item(slot, hold, to_wake);
    }

    // There is no item: waits for an item. Returns with the lock free, or held if the queue is
    // closed. `to_wake` may hold pushers: the moves of their items have thrown.
    bool wait_for_item(pop_slot<T> slot, std::unique_lock<wait_lock>& hold, wake_batch& to_wake) {
        if (closed)
            return false;
        queue_waiter me{&slot};
        poppers.push_back(me);
        hold.unlock();
        if (!to_wake.empty()) [[unlikely]]
            to_wake.wake_all();
        return wait(me);
    }

    // A push that does not wait. False: the queue is closed, or full.
    bool push_or_grow(T& item, std::unique_lock<wait_lock>& hold, wake_batch& to_wake) {
        while (!push_at_once(item, to_wake)) {
            if (closed || !items.can_grow())
                return false;
            grow(hold);
        }
        return true;
    }

    // A pop that does not wait. False: there is no item.
    bool pop_at_once(pop_slot<T> slot, wake_batch& to_wake) {
        if (items.size() != 0) {
            items.take([&](T&& item) { slot.put(std::move(item)); });
            let_pushers_in(to_wake);
            return true;
        }
        const auto put = [&](T& item) {
            slot.put(std::move(item));
            ++entered;
        };
        while (auto* pusher = static_cast<queue_node*>(pushers.take_front()))
            if (take_from(*pusher, put, to_wake))
                return true;
        return false;
    }

    // Pops the items that are there, without a wait, into place(0), place(1)... and returns their
    // number. Throws an error only before the first item: a later error comes again at the next
    // pop.
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

    Store items; // guarded by guard

private:
    // Allocates with the lock free, so the caller must look at everything again.
    [[gnu::noinline]] void grow(std::unique_lock<wait_lock>& hold) {
        const std::size_t count = items.growth();
        hold.unlock();
        typename Store::room more = Store::make_room(count);
        hold.lock();
        if (items.add(more))
            return;
        hold.unlock(); // to free the memory
        more = {};
        hold.lock();
    }

    // Also false if the store must grow first.
    bool push_at_once(T& item, wake_batch& to_wake) {
        if (closed)
            return false;
        if (give_to_popper(item, to_wake))
            return true;
        if (!items.has_room())
            return false;
        store(item);
        return true;
    }

    // Gives the item to the first popper; false if none waits. The item is moved before the node is
    // taken, so that nothing has happened when the move throws. A node of a select must be claimed
    // first; when the move throws, that select tries again.
    bool give_to_popper(T& item, wake_batch& to_wake) {
        while (auto* popper = first_popper()) {
            if (popper->shared && !poppers.take(*popper))
                continue;
            auto& slot = *static_cast<pop_slot<T>*>(popper->item);
            if constexpr (moves_safely<T>) {
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
                static_cast<void>(poppers.take(*popper));
            popper->outcome = outcome::moved;
            ++entered;
            to_wake.add(*popper);
            return true;
        }
        return false;
    }

    // Lets the items of the first pushers in while there is room.
    void let_pushers_in(wake_batch& to_wake) noexcept {
        const auto put = [&](T& item) { store(item); };
        while (items.has_room()) {
            auto* pusher = static_cast<queue_node*>(pushers.take_front());
            if (pusher == nullptr)
                return;
            take_from(*pusher, put, to_wake);
        }
    }

    // Takes the item of a pusher that is off its list. When the move of the item throws, only the
    // pusher's own push throws that error: an item that no pop can take would block all items
    // behind it.
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
};

} // namespace creel::sync::detail
