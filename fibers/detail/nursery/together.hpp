// What all(), race() and map() share.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

namespace creel {
class nursery;
}

namespace creel::detail {

// The result of calling an F, by value, with std::monostate for void.
template <typename F, typename... Args>
using plain_result = std::remove_cvref_t<std::invoke_result_t<F&, Args...>>;

template <typename R>
using filled = std::conditional_t<std::is_void_v<R>, std::monostate, R>;

template <typename F, typename... Args>
using filled_result = filled<plain_result<F, Args...>>;

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
// that takes any number of functions can take no source_location after them.
template <std::size_t Bytes>
struct numbered_name {
    char text[Bytes + 12]{};
    std::size_t length = 0;

    constexpr numbered_name(const char (&call)[Bytes], std::size_t number) noexcept {
        const auto append = [&](char c) { text[length++] = c; };
        for (std::size_t i = 0; i + 1 < Bytes; ++i)
            append(call[i]);
        append(' ');
        append('#');
        std::size_t digit = 1;
        while (number / digit >= 10)
            digit *= 10;
        for (; digit != 0; digit /= 10)
            append(static_cast<char>('0' + number / digit % 10));
    }
    [[nodiscard]] constexpr std::string_view view() const noexcept { return {text, length}; }
};

// Some child has no result, although none has failed: it was cancelled by the token of the call's
// own nursery. Throws: task_cancelled. (A cancel from outside has been thrown before.)
[[noreturn]] void throw_unfinished(nursery& n);

} // namespace creel::detail
