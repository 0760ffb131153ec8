// What a handle remembers of a socket that it has closed or released: its address, so that a call
// that comes too late can name it.
#pragma once

#include <creel/io/endpoint.hpp>

#include <memory>

namespace creel::io::detail {

// The peer's address, a listener's own; null if there is no memory for it, or no address.
// Cost: a system call and an allocation, so it is for close() and release(), not for destructors.
[[nodiscard]] std::unique_ptr<const endpoint> former_peer(int fd) noexcept;
[[nodiscard]] std::unique_ptr<const endpoint> former_address(int fd) noexcept;

// "recv on the stream to 10.0.0.1:80, which was closed or released"; without `socket` as
// throw_not_open(). `kind` is "the stream to ". Throws: std::system_error (bad_file_descriptor).
[[noreturn]] void throw_not_open(const char* call, const char* kind, const endpoint* socket);

} // namespace creel::io::detail
