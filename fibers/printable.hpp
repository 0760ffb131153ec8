// What of a text can stand in a message or on a line of a log as it is.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <cstddef>
#include <string_view>

namespace creel {

// The bytes of the character that the text, which may come from anywhere, begins with; 0 if its
// first byte must be escaped, and for an empty text. Escaped are what is not valid UTF-8, control
// characters (C0, DEL and C1, of which some terminals obey 0x9b also as a byte), the line and
// paragraph separators, and format characters: those that turn the direction of writing around or
// are invisible make a line look like another one.
// Threads: any. Cost: a comparison for ASCII.
[[nodiscard]] std::size_t printable_bytes(std::string_view text) noexcept;

} // namespace creel
