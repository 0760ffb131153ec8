// map(range, limit, f): calls f for each element, at most `limit` at a time, and returns the
// results in the order of the elements.
//
//     std::vector<page> pages =
//         creel::map(urls, 8, [](const std::string& url) { return fetch(url); });
//
// Each call is a child of one nursery: the first error cancels the others, and no further call
// begins. The calling fiber reads the range as places become free.
#pragma once

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/task/filled.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/waiter.hpp>

#include <cstddef>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <ranges>
#include <source_location>
#include <type_traits>
#include <utility>
#include <vector>

namespace creel {

namespace detail {

// An element that stays in the range is passed by reference. An element that a view makes, or that
// comes from a range that can be read only once, moves into the child.
template <typename Range>
inline constexpr bool elements_stay =
    std::ranges::forward_range<Range> &&
    std::is_lvalue_reference_v<std::ranges::range_reference_t<Range>>;

template <typename Range>
using element = std::conditional_t<elements_stay<Range>, std::ranges::range_reference_t<Range>,
                                   std::remove_cvref_t<std::ranges::range_reference_t<Range>>&&>;

// Spawns a child for each element.
template <typename Range, typename F, typename Call>
void spawn_each(nursery& n, Range& range, F& f, Call call, const std::source_location& where) {
    for (auto&& e : range) {
        check_cancel_only(); // without it, a long range would be read to its end for nothing
        if constexpr (elements_stay<Range>)
            n.spawn([&f, p = std::addressof(e), run = call()] { run(f, *p); }, where);
        else
            n.spawn([&f, value = std::remove_cvref_t<decltype(e)>(std::forward<decltype(e)>(e)),
                     run = call()]() mutable { run(f, std::move(value)); },
                    where);
    }
}

} // namespace detail

// Returns a vector of the results, or nothing if f returns nothing.
// Parks: until all calls have ended. Cancel: yes, all calls are cancelled and awaited; if all
// succeed nevertheless, their results are returned. Threads: those with a scheduler. Throws: what f
// throws, several errors as an exception_group; cancelled; task_cancelled if map() itself was
// cancelled. Cost: a spawn for each element.
template <std::ranges::input_range Range, typename F>
auto map(Range&& range, std::size_t limit, F&& f,
         std::source_location where = std::source_location::current())
    -> std::conditional_t<std::is_void_v<std::invoke_result_t<F&, detail::element<Range>>>, void,
                          std::vector<detail::filled_result<F, detail::element<Range>>>> {
    using element = detail::element<Range>;
    using result = detail::filled_result<F, element>;
    CREEL_ASSERT(limit > 0, "map needs a limit of at least one call at a time");
    std::deque<std::optional<result>> results; // its elements do not move as it grows
    const auto call = [&results] {
        return [&slot = results.emplace_back()](auto& g, auto&& e) {
            detail::fill(slot, g, std::forward<decltype(e)>(e));
        };
    };
    nursery n = detail::nursery_access::open({.name = "map", .max_children = limit}, where);
    const auto body = [&](nursery& same) { detail::spawn_each(same, range, f, call, where); };
    detail::nursery_access::run(n, body);
    for (const auto& r : results)
        if (!r) [[unlikely]]
            detail::nursery_access::core(n).throw_absorbed(); // by the nursery's own token
    if constexpr (!std::is_void_v<std::invoke_result_t<F&, element>>) {
        std::vector<result> values;
        values.reserve(results.size());
        for (auto& r : results)
            values.push_back(std::move(*r));
        return values;
    }
}

} // namespace creel
