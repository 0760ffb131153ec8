// Converts between io::endpoint, which includes no socket header, and the kernel's sockaddr.
#pragma once

#include <sys/socket.h>

#include <creel/io/endpoint.hpp>

namespace creel::io::detail {

// Fills in the address and returns its length in bytes, for bind, connect and sendto. The
// unspecified endpoint becomes AF_UNSPEC. An unnamed Unix endpoint becomes the family alone; bind
// then picks an abstract name ("autobind" in unix(7)). The whole storage is written.
// Threads: any.
[[nodiscard]] socklen_t sockaddr_of(const endpoint& value, sockaddr_storage& storage) noexcept;

// Takes the address and the length that the kernel reported. The address may have any alignment.
// The length may exceed the buffer, because accept and getsockname report the full length of a
// truncated address; bytes past sizeof(sockaddr_un) are not read. A family that creel does not know
// and an address that is too short give the unspecified endpoint. IPv6 flow labels are dropped:
// they belong to a packet.
// Threads: any.
[[nodiscard]] endpoint endpoint_from(const sockaddr* address, socklen_t length_bytes) noexcept;

} // namespace creel::io::detail
