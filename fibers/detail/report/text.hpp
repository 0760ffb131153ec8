// Text for people, in messages and in the lines of a log.
#pragma once

#include <creel/fibers/time.hpp>

#include <source_location>
#include <string>
#include <string_view>

namespace creel::detail {

// The text on one line, without anything that a terminal obeys: bytes that printable_bytes() does
// not accept become \n, \t or \x1b, byte by byte. For messages that quote a peer's data.
[[nodiscard]] std::string escaped(std::string_view text);

// "250ms", "1.5s": at most three digits after the point.
[[nodiscard]] std::string to_text(duration d);

// "server.cpp:42"
[[nodiscard]] std::string to_text(const std::source_location& where);

} // namespace creel::detail
