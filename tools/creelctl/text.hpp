// Text of another process, and words of the command line.
#pragma once

#include <string>
#include <string_view>

namespace creelctl {

// The text as a terminal may get it. What the terminal would obey (control bytes, U+0080 to U+009F,
// marks that turn the direction of text) and what is no UTF-8 becomes "?". `lines`: ends of lines
// and tabs stay.
enum class keep { nothing, lines };
[[nodiscard]] std::string printable(std::string_view text, keep what = keep::nothing);

// Digits, and nothing else.
[[nodiscard]] bool is_number(std::string_view text) noexcept;

// The number that the text begins with, from 0 to 10^18; 0 if there is none.
[[nodiscard]] double number_in(const std::string& text) noexcept;

} // namespace creelctl
