// A text as a string of JSON.
#pragma once

#include <string>
#include <string_view>

namespace creel::detail {

// RFC 8259, with the quotes. A name may have any bytes: those that are no UTF-8, or that a terminal
// would obey, become U+FFFD.
// Throws: std::bad_alloc.
[[nodiscard]] std::string json_string(std::string_view text);

} // namespace creel::detail
