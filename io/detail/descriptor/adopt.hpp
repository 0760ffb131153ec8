// Takes over a socket that other code has made.
#pragma once

#include <creel/io/stream_options.hpp>

namespace creel::io::detail {

class connection;

// Like tcp_stream::adopt().
[[nodiscard]] connection* adopt_stream(int fd, const stream_options& options);

} // namespace creel::io::detail
