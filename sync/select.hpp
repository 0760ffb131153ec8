// The first of several: waits until one of its cases can happen, and makes exactly that one happen.
//
//     sync::select(sync::on_pop(requests, [&](std::optional<request> r) { serve(r); }),
//                  sync::on_push(replies, next, [&](bool pushed) { sent = pushed; }),
//                  sync::on_set(stop, [&] { running = false; }),
//                  sync::on_timer(10s, [&] { report(); }));
//
// The handler of that case then runs with no lock held, so it may wait. A pop from a queue that is
// closed and drained can happen, and gives an empty optional; a push to a closed queue gives false.
// The other cases have not happened: no item is taken, an item to be pushed is not moved from, an
// automatic event stays set. Go's select is the model.
#pragma once

#include <creel/sync/detail/select_cases.hpp>
#include <creel/sync/detail/select_queue_cases.hpp>

#include <array>
#include <concepts>
#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>

namespace creel::sync {

using enum select_order;

namespace detail {
inline constexpr auto do_nothing = [] {};
using do_nothing_type = std::remove_const_t<decltype(do_nothing)>;

template <typename C>
concept selectable = std::derived_from<std::remove_cvref_t<C>, select_case>;

// The common type of all handlers' results; the index of the case if they return nothing.
template <bool AllVoid, typename... Results>
struct select_result {
    using type = std::common_type_t<Results...>;
};
template <typename... Results>
struct select_result<true, Results...> {
    using type = std::size_t;
};
} // namespace detail

// The cases. The primitives and items that they refer to must outlive the select.

// An item from a queue: f(std::optional<T>). If moving T may throw, let f take std::optional<T>&&:
// an item is lost when its move into f's own parameter throws.
template <typename T, typename Store, std::invocable<std::optional<T>> F>
[[nodiscard]] auto on_pop(detail::basic_queue<T, Store>& q, F f) {
    return detail::pop_case<T, Store, F>{q, std::move(f)};
}

// An item into a queue: f(bool), false if the queue is closed. `item` is moved from only if it went
// in.
template <typename T, typename Store, std::invocable<bool> F>
[[nodiscard]] auto on_push(detail::basic_queue<T, Store>& q, std::type_identity_t<T>& item, F f) {
    return detail::push_case<T, Store, F>{q, item, std::move(f)};
}

// An event is set; an automatic event is used up. f().
template <std::invocable F = detail::do_nothing_type>
[[nodiscard]] auto on_set(event& e, F f = {}) {
    return detail::event_case<F>{e, std::move(f)};
}

// The time `after` has passed since the call of on_timer, or the time `at` has come. f().
template <std::invocable F = detail::do_nothing_type>
[[nodiscard]] auto on_timer(saturating_duration after, F f = {}) {
    return detail::timer_case<F>{deadline_after(after), after, std::move(f)};
}
template <std::invocable F = detail::do_nothing_type>
[[nodiscard]] auto on_timer(saturating_time_point at, F f = {}) {
    return detail::timer_case<F>{at, duration{}, std::move(f)};
}

// A future is ready: f(const T&), or f() for void. If it has an exception, select throws that
// instead.
template <typename T, typename F>
[[nodiscard]] auto on_ready(const future<T>& from, F f) {
    return detail::future_case<T, F>{from, std::move(f)};
}

// A child of async() has ended, in whatever way: f(), in which t.get() does not wait. Only on the
// child's thread, and not while another fiber waits for the child.
template <typename R, std::invocable F = detail::do_nothing_type>
[[nodiscard]] auto on_task(const task<R>& t, F f = {}) {
    return detail::task_case<F>{task_end{t}, std::move(f)};
}

// Of several cases that can happen, each is equally likely (fair), or the first one written happens
// (ordered). Returns the result of its handler, in the common type of all; or, where all handlers
// return nothing, the index of the case. At most 32 cases.
// Parks: until a case can happen. Cancel: yes, no case has happened then; not in the handler.
// Threads: any, except for on_task. Throws: cancelled; the error of moving an item, or of the
// handler. Cost: when a case can happen at once, the lock of each primitive it tries; else the lock
// of each primitive twice more. No allocation.
template <detail::selectable... Cases>
auto select(select_order order, Cases&&... cases) {
    static_assert(sizeof...(Cases) > 0, "select needs a case");
    static_assert(sizeof...(Cases) <= detail::most_cases, "select has at most 32 cases");
    constexpr bool all_void = (std::is_void_v<typename std::remove_cvref_t<Cases>::result> && ...);
    static_assert(all_void || (!std::is_void_v<typename std::remove_cvref_t<Cases>::result> && ...),
                  "the handlers of a select all return something, or none does");
    using result =
        typename detail::select_result<all_void,
                                       typename std::remove_cvref_t<Cases>::result...>::type;
    const std::array<detail::select_case*, sizeof...(Cases)> all{&cases...};
    const std::size_t happened = detail::select_one(all, order);
    std::size_t i = 0;
    if constexpr (all_void) {
        static_cast<void>(((i++ == happened && (cases.finish(), true)) || ...));
        return happened;
    } else {
        std::optional<result> value;
        static_cast<void>(((i++ == happened && (value.emplace(cases.finish()), true)) || ...));
        return std::move(*value);
    }
}
template <detail::selectable... Cases>
auto select(Cases&&... cases) {
    return select(select_order::fair, std::forward<Cases>(cases)...);
}

} // namespace creel::sync
