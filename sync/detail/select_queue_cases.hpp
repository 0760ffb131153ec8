// The cases of a select at a queue: a pop and a push. See select_cases.hpp.
#pragma once

#include <creel/sync/detail/basic_queue.hpp>
#include <creel/sync/detail/select_core.hpp>

#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

namespace creel::sync::detail {

struct queue_access {
    template <typename T, typename Store>
    static item_exchange<T, Store>& exchange(basic_queue<T, Store>& queue) noexcept {
        return queue.exchange_;
    }
};

// True if a waiter other than `me` is in the list. One select may push to and pop from the same
// queue.
[[nodiscard]] inline bool others_wait(const wait_list& list, const select_waiter& me) noexcept {
    for (const wait_node* n = list.front(); n != nullptr; n = n->next())
        if (&n->who() != &me)
            return true;
    return false;
}

template <typename T, typename Store, typename F>
struct pop_case final : select_case {
    using result = std::invoke_result_t<F&, std::optional<T>>;

    pop_case(basic_queue<T, Store>& queue, F f)
        : select_case(kind_of<pop_case>), from(queue_access::exchange(queue)), then(std::move(f)) {}

    wait_lock& lock() noexcept { return from.guard; }
    bool attempt() {
        item.reset(); // an item of an earlier select by this case
        wake_batch to_wake;
        const std::lock_guard hold{lock()};
        return from.pop_at_once({&item}, to_wake) || from.closed;
    }
    enrolment enroll(select_waiter& me) {
        wake_batch to_wake;
        const std::lock_guard hold{lock()};
        if (from.closed || from.items.size() != 0 || others_wait(from.pushers, me)) {
            if (!me.claim.try_claim(nullptr))
                return enrolment::taken;
            return from.pop_at_once({&item}, to_wake) || from.closed ? enrolment::done
                                                                     : enrolment::again;
        }
        node = &place.emplace(me, &slot, &me.claim);
        from.poppers.push_back(*node);
        return enrolment::waiting;
    }
    bool happened() { return place->outcome != queue_node::outcome_type::again; }
    result finish() { return std::invoke(then, std::move(item)); }

    item_exchange<T, Store>& from;
    F then;
    std::optional<T> item{}; // stays empty if the queue was closed
    pop_slot<T> slot{&item};
    std::optional<queue_node> place{};
};

template <typename T, typename Store, typename F>
struct push_case final : select_case {
    using result = std::invoke_result_t<F&, bool>;

    push_case(basic_queue<T, Store>& queue, T& what, F f)
        : select_case(kind_of<push_case>),
          to(queue_access::exchange(queue)),
          item(what),
          then(std::move(f)) {}

    wait_lock& lock() noexcept { return to.guard; }
    bool attempt() {
        wake_batch to_wake;
        std::unique_lock hold{lock()};
        pushed = to.push_or_grow(item, hold, to_wake);
        return pushed || to.closed;
    }
    enrolment enroll(select_waiter& me) {
        wake_batch to_wake;
        std::unique_lock hold{lock()};
        if (to.closed || to.items.has_room() || to.items.can_grow() ||
            others_wait(to.poppers, me)) {
            if (!me.claim.try_claim(nullptr))
                return enrolment::taken;
            pushed = to.push_or_grow(item, hold, to_wake);
            return pushed || to.closed ? enrolment::done : enrolment::again;
        }
        node = &place.emplace(me, std::addressof(item), &me.claim);
        to.pushers.push_back(*node);
        return enrolment::waiting;
    }
    bool happened() {
        if (place->error != nullptr)
            std::rethrow_exception(place->error);
        pushed = place->outcome == queue_node::outcome_type::moved;
        return true;
    }
    result finish() { return std::invoke(then, pushed); }

    item_exchange<T, Store>& to;
    T& item;
    F then;
    bool pushed = false; // stays false if the queue was closed
    std::optional<queue_node> place{};
};

} // namespace creel::sync::detail
