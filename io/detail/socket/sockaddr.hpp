// Between io::endpoint, which names no socket header, and the kernel's sockaddr.
#pragma once

#include <sys/socket.h>

#include <creel/io/endpoint.hpp>

namespace creel::io::detail {

// Fills in the address and returns its length in bytes: for bind, connect and sendto. The
// unspecified endpoint becomes AF_UNSPEC, an unnamed Unix one the family alone (bind then picks an
// abstract name: "autobind" in unix(7)). The whole storage is written.
// Threads: any.
[[nodiscard]] socklen_t sockaddr_of(const endpoint& value, sockaddr_storage& storage) noexcept;

// What the kernel reported, with the length it reported. Any alignment will do. The length may
// exceed the buffer, as accept and getsockname report for a truncated address; bytes past
// sizeof(sockaddr_un) are not looked at. A family creel does not know, or an address that is
// too short, gives the unspecified endpoint. IPv6 flow labels are dropped: they belong to a packet.
// Threads: any.
[[nodiscard]] endpoint endpoint_from(const sockaddr* address, socklen_t length_bytes) noexcept;

} // namespace creel::io::detail
