// Tells which bytes of a text may stand unchanged in a message or on a line of a log.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <cstddef>
#include <string_view>

namespace creel {

// The number of bytes of the text's first character; 0 if the first byte must be escaped, and for
// an empty text. The text may come from anywhere. A message must escape bytes that are not valid
// UTF-8, control characters (C0, DEL and C1; some terminals also obey 0x9b as a single byte), the
// line and paragraph separators, and format characters: a character that turns the direction of
// writing, or is invisible, makes a line look like another line.
// Threads: any. Cost: a comparison for ASCII.
[[nodiscard]] std::size_t printable_bytes(std::string_view text) noexcept;

} // namespace creel
