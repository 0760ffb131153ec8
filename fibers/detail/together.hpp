// What all(), race() and map() share.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace creel::detail {

// The result of calling an F, by value, with std::monostate for void.
template <typename F, typename... Args>
using plain_result = std::remove_cvref_t<std::invoke_result_t<F&, Args...>>;

template <typename F, typename... Args>
using filled_result = std::conditional_t<std::is_void_v<std::invoke_result_t<F&, Args...>>,
                                         std::monostate, plain_result<F, Args...>>;

template <typename R, typename F, typename... Args>
void fill(std::optional<R>& result, F& f, Args&&... args) {
    if constexpr (std::is_void_v<std::invoke_result_t<F&, Args...>>) {
        std::invoke(f, std::forward<Args>(args)...);
        result.emplace();
    } else {
        result.emplace(std::invoke(f, std::forward<Args>(args)...));
    }
}

// "race #2": tells the children of one call apart, whose spawn sites are one line of ours: a call
// that takes any number of functions can take no source_location after them. Short enough for a
// string without an allocation.
[[nodiscard]] std::string numbered(std::string_view call, int number);

// Some child has no result, although none has failed: throws `cancelled` if the caller is
// cancelled (the child then never started), else task_cancelled.
[[noreturn]] void throw_unfinished();

} // namespace creel::detail
