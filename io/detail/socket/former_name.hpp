// The address that a stream or listener remembers after it has closed or released its socket, so
// that the error of a later call names the socket.
#pragma once

#include <creel/io/endpoint.hpp>

#include <memory>

namespace creel::io::detail {

// The address of a stream's peer, and a listener's own address; null if there is no address or no
// memory for it. Cost: a system call and an allocation: call it in close() and release(), not in a
// destructor.
[[nodiscard]] std::unique_ptr<const endpoint> former_peer(int fd) noexcept;
[[nodiscard]] std::unique_ptr<const endpoint> former_address(int fd) noexcept;

// For a call on an empty handle, with the text "recv on the stream to 10.0.0.1:80, which was closed
// or released", where "the stream to " is `kind`. If `socket` is null, the text is that of
// throw_not_open(call) in descriptor.hpp, which a call on a closing record throws too.
// Throws: std::system_error (bad_file_descriptor).
[[noreturn]] void throw_not_open(const char* call, const char* kind, const endpoint* socket);

} // namespace creel::io::detail
