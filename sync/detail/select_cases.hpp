// The cases of a select at an event, a timer, a future and a task. Each type has the functions that
// the case calls at its primitive, and finish(), which calls the handler of the case that has
// happened.
#pragma once

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/task.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/sync/detail/select_core.hpp>
#include <creel/sync/event.hpp>
#include <creel/sync/future.hpp>

#include <concepts>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

namespace creel::sync::detail {

template <typename F>
struct event_case final : select_case {
    using result = std::invoke_result_t<F&>;

    event_case(event& on, F f) : select_case(kind_of<event_case>), e(on), then(std::move(f)) {}

    wait_lock& lock() noexcept { return e.lock_; }
    bool attempt() noexcept { return e.try_wait(); }
    enrolment enroll(select_waiter& me) noexcept {
        const std::lock_guard hold{lock()};
        if (e.set_) {
            if (!me.claim.try_claim(nullptr))
                return enrolment::taken;
            e.set_ = !e.automatic_;
            return enrolment::done;
        }
        node = &place.emplace(me, &me.claim);
        e.waiting_.push_back(*node);
        return enrolment::waiting;
    }
    static bool happened() noexcept { return true; }
    result finish() { return std::invoke(then); }

    event& e;
    F then;
    std::optional<wait_node> place{};
};

template <typename F>
struct timer_case final : select_case {
    using result = std::invoke_result_t<F&>;

    timer_case(time_point at, duration after, F f) : select_case(kind), then(std::move(f)) {
        deadline = at;
        span = after;
    }
    result finish() { return std::invoke(then); }

    // No node: the park itself has the timer.
    static constexpr select_kind kind{
        [](select_case& c) { return creel::now() >= c.deadline; },
        [](select_case&, select_waiter&) { return enrolment::waiting; },
        [](select_case&) noexcept {},
        [](select_case&) { return true; },
        [](select_case&, std::string& text) { text += "a timer"; },
    };
    F then;
};

struct future_access {
    template <typename T>
    static future_base& state(const future<T>& f) {
        return f.required();
    }
    // Only once it is ready. future::get() would check for a cancel, but the case has happened.
    template <typename T>
    static const T& value(const future<T>& f) {
        return f.required().value();
    }
};

template <typename T, typename F>
struct future_result {
    using type = std::invoke_result_t<F&, const T&>;
};
template <typename F>
struct future_result<void, F> {
    using type = std::invoke_result_t<F&>;
};

template <typename T, typename F>
struct future_case final : select_case {
    using result = typename future_result<T, F>::type;

    future_case(const future<T>& f, F g)
        : select_case(kind_of<future_case>),
          from(f),
          state(future_access::state(from)),
          then(std::move(g)) {}

    wait_lock& lock() noexcept { return state.guard; }
    bool attempt() noexcept { return state.ready(); }
    enrolment enroll(select_waiter& me) noexcept {
        const std::lock_guard hold{lock()};
        if (state.is_ready())
            return me.claim.try_claim(nullptr) ? enrolment::done : enrolment::taken;
        node = &place.emplace(me, &me.claim);
        state.waiting.push_back(*node);
        return enrolment::waiting;
    }
    static bool happened() noexcept { return true; }
    result finish() {
        if constexpr (std::is_void_v<T>) {
            state.throw_error();
            return std::invoke(then);
        } else {
            return std::invoke(then, future_access::value(from));
        }
    }

    future<T> from;
    future_base& state;
    F then;
    std::optional<wait_node> place{};
};

template <typename F>
struct task_case final : select_case {
    using result = std::invoke_result_t<F&>;

    task_case(task_end end, F f) : select_case(kind), child(end), then(std::move(f)) {}
    enrolment enroll(select_waiter& me) noexcept {
        if (child.has_come())
            return me.claim.try_claim(nullptr) ? enrolment::done : enrolment::taken;
        node = &place.emplace(me, &me.claim); // in no list: it tells which case has won
        child.watch(*node, me.claim);
        return enrolment::waiting;
    }
    result finish() { return std::invoke(then); }

    // Child and select are on one thread, so there is nothing to lock.
    static constexpr select_kind kind{
        [](select_case& c) { return static_cast<task_case&>(c).child.has_come(); },
        [](select_case& c, select_waiter& me) { return static_cast<task_case&>(c).enroll(me); },
        [](select_case& c) noexcept {
            static_cast<task_case&>(c).child.unwatch(*c.node);
            c.node = nullptr;
        },
        [](select_case&) { return true; },
        [](select_case& c, std::string& text) { static_cast<task_case&>(c).child.describe(text); },
    };
    task_end child;
    F then;
    std::optional<wait_node> place{};
};

} // namespace creel::sync::detail
