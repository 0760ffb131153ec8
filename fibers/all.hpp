// all(f...): runs functions side by side and returns all their results.
//
//     auto [user, orders] = creel::all([&] { return load_user(id); },
//                                      [&] { return load_orders(id); });
//
// Each is a child of a nursery of its own, "all #1" and so on in lists and in error_origin(): the
// first error cancels the others, all are awaited.
#pragma once

#include <creel/fibers/detail/together.hpp>
#include <creel/fibers/nursery.hpp>

#include <optional>
#include <tuple>
#include <utility>

namespace creel {

namespace detail {

// A function of its own: clang 16 crashes on a lambda that captures an element of a pack, in a pack
// expansion inside another lambda.
template <typename R, typename F>
void spawn_filling(nursery& n, int number, std::optional<R>& result, F& f) {
    n.spawn({.name = numbered("all", number)}, [&result, &f] { fill(result, f); });
}

} // namespace detail

// A tuple of the results, in the order of the functions; std::monostate for those without one.
// Parks: until all have ended. Cancel: yes, all are cancelled then, and awaited; when all have
// succeeded all the same, their results are returned. Threads: those with a scheduler.
// Throws: what they throw, several as an exception_group; cancelled. Cost: a nursery and a spawn
// for each.
template <typename... F>
auto all(F&&... f) -> std::tuple<detail::filled_result<F>...> {
    std::tuple<std::optional<detail::filled_result<F>>...> results;
    with_nursery({.name = "all"}, [&](nursery& n) {
        [[maybe_unused]] int number = 0;
        std::apply([&](auto&... result) { (detail::spawn_filling(n, ++number, result, f), ...); },
                   results);
    });
    return std::apply(
        [](auto&... result) {
            if (!(result.has_value() && ...)) [[unlikely]]
                detail::throw_unfinished();
            return std::tuple<detail::filled_result<F>...>{std::move(*result)...};
        },
        results);
}

} // namespace creel
