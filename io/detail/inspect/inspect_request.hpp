// The protocol of the inspect socket: one line in, the answer until the end of the stream. The user
// side of it is docs/debugging.md.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace creel::io::detail {

// Lines and, for HTTP, headers: what is longer is refused.
inline constexpr std::size_t longest_request = 4096;

// The request in what a client has sent until now: its first line, without its end. Empty while it
// is not whole; of HTTP also while its headers are not.
[[nodiscard]] std::optional<std::string_view> whole_request(std::string_view received) noexcept;

// Does what the line asks. An answer that tells of an error begins with "error: ".
// Parks: it blocks the thread while runs answer. Threads: any without a run. Throws:
// std::bad_alloc.
[[nodiscard]] std::string answer_request(std::string_view line);

// The answer to a client that sends too much.
[[nodiscard]] std::string answer_too_long();

} // namespace creel::io::detail
