// From an endpoint to a connected socket.
#pragma once

#include <creel/io/detail/descriptor.hpp>

namespace creel::io::detail {

// Parks: until the peer has answered. Cancel: yes. Throws: cancelled, std::system_error.
[[nodiscard]] owned_fd connect(const endpoint& to);

} // namespace creel::io::detail
