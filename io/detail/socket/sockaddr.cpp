#include <creel/io/detail/socket/sockaddr.hpp>

#include <algorithm>
#include <cstring>

#include <netinet/in.h>
#include <sys/un.h>

namespace creel::io::detail {

// The only access to the private representation of an endpoint.
struct sockaddr_access {
    static constexpr std::size_t path_offset = offsetof(sockaddr_un, sun_path);
    static_assert(sizeof(sockaddr_un::sun_path) == endpoint::capacity_bytes);
    static_assert(sizeof(sockaddr_un) <= sizeof(sockaddr_storage));

    static std::span<const std::byte> content(const endpoint& value) noexcept {
        return value.content();
    }

    static endpoint make(address_family family, const void* bytes, std::size_t length_bytes,
                         std::uint16_t port = 0, std::uint32_t scope_id = 0) noexcept {
        return {family, {static_cast<const std::byte*>(bytes), length_bytes}, port, scope_id};
    }
};

namespace {

// A reported path ends at its first zero byte. If a program has bound all 108 bytes, the path ends
// with the array, and the length counts a zero byte that is not in sun_path (unix(7), "Pathname
// sockets").
endpoint local_from(const std::byte* path, std::size_t length_bytes) noexcept {
    length_bytes = std::min(length_bytes, sizeof(sockaddr_un::sun_path));
    if (length_bytes > 0 && path[0] != std::byte{0})
        length_bytes =
            static_cast<std::size_t>(std::find(path, path + length_bytes, std::byte{0}) - path);
    return sockaddr_access::make(address_family::local, path, length_bytes);
}

} // namespace

socklen_t sockaddr_of(const endpoint& value, sockaddr_storage& storage) noexcept {
    std::memset(&storage, 0, sizeof storage);
    const auto content = sockaddr_access::content(value);
    switch (value.family()) {
    case address_family::ipv4: {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(static_cast<std::uint16_t>(value.port()));
        std::memcpy(&address.sin_addr, content.data(), content.size());
        std::memcpy(&storage, &address, sizeof address);
        return sizeof address;
    }
    case address_family::ipv6: {
        sockaddr_in6 address{};
        address.sin6_family = AF_INET6;
        address.sin6_port = htons(static_cast<std::uint16_t>(value.port()));
        address.sin6_scope_id = value.scope_id();
        std::memcpy(&address.sin6_addr, content.data(), content.size());
        std::memcpy(&storage, &address, sizeof address);
        return sizeof address;
    }
    case address_family::local: {
        storage.ss_family = AF_UNIX;
        std::memcpy(reinterpret_cast<std::byte*>(&storage) + sockaddr_access::path_offset,
                    content.data(), content.size());
        // The length of a file's path counts the terminator if there is room for one. An abstract
        // name is exactly its bytes: with one more zero it would be another name.
        const bool terminated = !content.empty() && content.front() != std::byte{0} &&
                                content.size() < sizeof(sockaddr_un::sun_path);
        return static_cast<socklen_t>(sockaddr_access::path_offset + content.size() +
                                      (terminated ? 1 : 0));
    }
    case address_family::unspecified:
        break;
    }
    storage.ss_family = AF_UNSPEC;
    return sizeof storage.ss_family;
}

endpoint endpoint_from(const sockaddr* address, socklen_t length_bytes) noexcept {
    const auto* bytes = reinterpret_cast<const std::byte*>(address);
    sa_family_t family = AF_UNSPEC;
    if (address == nullptr || length_bytes < sizeof family)
        return {};
    static_assert(offsetof(sockaddr, sa_family) == 0);
    std::memcpy(&family, bytes, sizeof family);
    if (family == AF_INET && length_bytes >= sizeof(sockaddr_in)) {
        sockaddr_in in{};
        std::memcpy(&in, bytes, sizeof in);
        return sockaddr_access::make(address_family::ipv4, &in.sin_addr, sizeof in.sin_addr,
                                     ntohs(in.sin_port));
    }
    if (family == AF_INET6 && length_bytes >= sizeof(sockaddr_in6)) {
        sockaddr_in6 in{};
        std::memcpy(&in, bytes, sizeof in);
        return sockaddr_access::make(address_family::ipv6, &in.sin6_addr, sizeof in.sin6_addr,
                                     ntohs(in.sin6_port), in.sin6_scope_id);
    }
    if (family == AF_UNIX)
        return local_from(bytes + sockaddr_access::path_offset,
                          length_bytes - sockaddr_access::path_offset);
    return {};
}

} // namespace creel::io::detail
