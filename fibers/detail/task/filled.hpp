// The result of a function as a value that can be kept. If the function returns nothing, the value
// is a std::monostate.
#pragma once

#include <functional>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

namespace creel::detail {

template <typename R>
using filled = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

// What an F returns, without a reference.
template <typename F, typename... Args>
using plain_result = std::remove_cvref_t<std::invoke_result_t<F&, Args...>>;

template <typename F, typename... Args>
using filled_result = filled<plain_result<F, Args...>>;

// Calls f, and makes its result in place.
template <typename R, typename F, typename... Args>
void fill(std::optional<R>& result, F& f, Args&&... args) {
    if constexpr (std::is_void_v<std::invoke_result_t<F&, Args...>>) {
        std::invoke(f, std::forward<Args>(args)...);
        result.emplace();
    } else {
        result.emplace(std::invoke(f, std::forward<Args>(args)...));
    }
}

// Returns the value that was filled in, as an R.
template <typename R>
R unfilled(std::optional<filled<R>>& result) {
    if constexpr (!std::is_void_v<R>)
        return std::move(*result);
}

} // namespace creel::detail
