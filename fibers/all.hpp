// all(f...): runs functions side by side and returns all their results.
//
//     auto [user, orders] = creel::all([&] { return load_user(id); },
//                                      [&] { return load_orders(id); });
//
// Each function is a child of one nursery, named "all #1" and so on in lists and in error_origin().
// The first error cancels the others; all are awaited.
#pragma once

#include <creel/fibers/build_check.hpp>
#include <creel/fibers/detail/task/filled.hpp>
#include <creel/fibers/nursery.hpp>

#include <cstddef>
#include <optional>
#include <tuple>
#include <utility>

namespace creel {

namespace detail {

// The function of a child of all().
template <typename R, typename F, std::size_t Number>
struct filling {
    void operator()() const { fill(result, f); }

    std::optional<R>& result;
    F& f;
};
template <typename R, typename F, std::size_t Number>
inline constexpr task_label default_label<filling<R, F, Number>>{"all", Number};

template <typename Results, std::size_t... I, typename... F>
void spawn_all(nursery& n, Results& results, std::index_sequence<I...> /*numbers*/, F&... f) {
    (n.spawn(filling<filled_result<F>, F, I + 1>{std::get<I>(results), f}), ...);
}

} // namespace detail

// Returns a tuple of the results, in the order of the functions; std::monostate for a function
// without a result.
// Parks: until all have ended. Cancel: yes, all functions are cancelled and awaited; if all succeed
// nevertheless, their results are returned. Threads: those with a scheduler. Throws: what the
// functions throw, several errors as an exception_group; cancelled; task_cancelled if all() itself
// was cancelled. Cost: a nursery, and a spawn for each.
template <typename... F>
auto all(F&&... f) -> std::tuple<detail::filled_result<F>...> {
    std::tuple<std::optional<detail::filled_result<F>>...> results;
    nursery n = detail::nursery_access::open({.name = "all"}, std::source_location::current());
    const auto body = [&](nursery& same) {
        detail::spawn_all(same, results, std::index_sequence_for<F...>{}, f...);
    };
    detail::nursery_access::run(n, body);
    return std::apply(
        [&n](auto&... result) {
            if (!(result.has_value() && ...)) [[unlikely]]
                detail::nursery_access::core(n).throw_absorbed(); // by the nursery's own token
            return std::tuple<detail::filled_result<F>...>{std::move(*result)...};
        },
        results);
}

} // namespace creel
