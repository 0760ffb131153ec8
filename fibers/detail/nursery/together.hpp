// What all(), race() and map() share.
#pragma once

#include <creel/fibers/detail/task/filled.hpp>

#include <cstddef>
#include <string_view>

namespace creel {
class nursery;
}

namespace creel::detail {

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
