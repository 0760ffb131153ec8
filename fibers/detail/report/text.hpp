// Text for people: what ends up in a message or on a line of a log.
#pragma once

#include <creel/fibers/time.hpp>

#include <source_location>
#include <string>
#include <string_view>

namespace creel::detail {

// On one line, and no terminal obeys it: what printable_bytes() does not let stand becomes \n, \t
// or \x1b, byte by byte. A message may quote what a peer has sent.
[[nodiscard]] std::string escaped(std::string_view text);

// "250ms", "1.5s": at most three digits behind the point.
[[nodiscard]] std::string to_text(duration d);

// "server.cpp:42"
[[nodiscard]] std::string to_text(const std::source_location& where);

} // namespace creel::detail
