#include <creel/io/endpoint.hpp>

#include <creel/io/detail/socket/endpoint_parser.hpp>
#include <creel/io/detail/socket/endpoint_text.hpp>

#include <algorithm>
#include <cstring>
#include <ostream>
#include <type_traits>

#include <arpa/inet.h>
#include <netinet/in.h>

namespace creel::io {
namespace {

constexpr std::string_view unspecified_text = "unspecified";

} // namespace

endpoint::endpoint(address_family family, std::span<const std::byte> content, std::uint16_t port,
                   std::uint32_t scope_id) noexcept
    : family_(family),
      length_(static_cast<std::uint8_t>(content.size())),
      port_(port),
      scope_id_(scope_id) {
    std::copy(content.begin(), content.end(), bytes_.begin());
}

endpoint::endpoint(std::string_view address, int port) {
    const detail::ip_endpoint ip = detail::ip_from(address, port);
    *this = endpoint{ip.family, ip.content(), ip.port, ip.scope_id};
}

endpoint endpoint::parse(std::string_view text) {
    if (text == unspecified_text)
        return {};
    if (text.starts_with(detail::local_prefix)) {
        const std::string path = detail::sun_path_from_text(text);
        return endpoint{address_family::local, std::as_bytes(std::span{path})};
    }
    const detail::ip_endpoint ip = detail::ip_and_port_from(text);
    return endpoint{ip.family, ip.content(), ip.port, ip.scope_id};
}

endpoint endpoint::any_v4(int port) {
    return endpoint{"0.0.0.0", port};
}

endpoint endpoint::any_v6(int port) {
    return endpoint{"::", port};
}

endpoint endpoint::loopback_v4(int port) {
    return endpoint{"127.0.0.1", port};
}

endpoint endpoint::loopback_v6(int port) {
    return endpoint{"::1", port};
}

endpoint endpoint::unix_path(std::string_view path) {
    const std::string bytes = detail::sun_path_from_path(path);
    return endpoint{address_family::local, std::as_bytes(std::span{bytes})};
}

endpoint endpoint::with_port(int port) const {
    if (family_ != address_family::ipv4 && family_ != address_family::ipv6)
        detail::refuse_endpoint(to_string(), "only IPv4 and IPv6 have ports");
    endpoint result = *this;
    result.port_ = detail::checked_port(port, address());
    return result;
}

std::string endpoint::address() const {
    if (family_ != address_family::ipv4 && family_ != address_family::ipv6)
        return {};
    char text[INET6_ADDRSTRLEN];
    const int family = family_ == address_family::ipv4 ? AF_INET : AF_INET6;
    std::string result = ::inet_ntop(family, bytes_.data(), text, sizeof text);
    if (scope_id_ != 0)
        result += '%' + std::to_string(scope_id_);
    return result;
}

std::string endpoint::path() const {
    if (family_ != address_family::local)
        return {};
    std::string result(reinterpret_cast<const char*>(bytes_.data()), length_);
    if (is_abstract())
        result.front() = '@';
    return result;
}

bool endpoint::is_abstract() const noexcept {
    return family_ == address_family::local && length_ > 0 && bytes_[0] == std::byte{0};
}

bool endpoint::is_loopback() const noexcept {
    constexpr std::byte v4_net{127};
    if (family_ == address_family::ipv4)
        return bytes_[0] == v4_net;
    if (family_ != address_family::ipv6)
        return false;
    in6_addr address{};
    std::memcpy(&address, bytes_.data(), sizeof address);
    return IN6_IS_ADDR_LOOPBACK(&address) ||
           (IN6_IS_ADDR_V4MAPPED(&address) && bytes_[12] == v4_net);
}

std::string endpoint::to_string() const {
    switch (family_) {
    case address_family::ipv4:
        return address() + ':' + std::to_string(port_);
    case address_family::ipv6:
        return '[' + address() + "]:" + std::to_string(port_);
    case address_family::local: {
        std::string result{detail::local_prefix};
        std::string name = path();
        if (!is_abstract() && name.starts_with('@')) { // parse() would read it as abstract
            detail::append_hex(result, '@');
            name.erase(0, 1);
        }
        return result + detail::escaped(name);
    }
    case address_family::unspecified:
        break;
    }
    return std::string{unspecified_text};
}

std::ostream& operator<<(std::ostream& out, const endpoint& value) {
    return out << value.to_string();
}

} // namespace creel::io

std::size_t
std::hash<creel::io::endpoint>::operator()(const creel::io::endpoint& value) const noexcept {
    using creel::io::endpoint;
    static_assert(std::has_unique_object_representations_v<endpoint>);
    static_assert(std::is_standard_layout_v<endpoint>);
    const std::string_view bytes{reinterpret_cast<const char*>(&value),
                                 offsetof(endpoint, bytes_) + value.length_};
    return std::hash<std::string_view>{}(bytes);
}
