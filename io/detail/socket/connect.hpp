// From an endpoint to a connected socket.
#pragma once

#include <creel/io/detail/descriptor/descriptor.hpp>
#include <creel/io/stream_options.hpp>

namespace creel::io::detail {

// The socket gets its options before it connects.
// Parks: until the peer has answered. Cancel: yes. Threads: those with a ring. Throws: cancelled,
// std::system_error, std::bad_alloc.
[[nodiscard]] owned_fd connect(const endpoint& to, const stream_options& options);

} // namespace creel::io::detail
