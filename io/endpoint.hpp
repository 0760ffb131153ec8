// An address to listen on or to connect to: IPv4, IPv6 or a Unix path. It is a value: it can be
// copied, compared, hashed and printed, and parse() reads what was printed.
//
//     io::endpoint here{"127.0.0.1", 8080};
//     auto there = io::endpoint::parse("[fe80::1%eth0]:80");
//     auto local = io::endpoint::parse("unix:/run/creel.sock");   // "unix:@name": abstract
//     std::cout << here.with_port(0) << '\n';                     // 127.0.0.1:0
//
// Only numeric addresses are accepted, so no call waits for a name server. The text forms are
// strict: no spaces, no leading zeros (010 is octal to some programs and ten to others), and no
// text after the port.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <iosfwd>
#include <span>
#include <string>
#include <string_view>

namespace creel::io {

class endpoint;

namespace detail {
struct sockaddr_access;
}

} // namespace creel::io

template <>
struct std::hash<creel::io::endpoint> {
    std::size_t operator()(const creel::io::endpoint& value) const noexcept;
};

namespace creel::io {

enum class address_family : std::uint8_t {
    unspecified, // no address: a default-constructed endpoint, or a family that creel does not know
    ipv4,
    ipv6,
    local, // a Unix socket: a file's path, an abstract name, or unnamed
};

class endpoint {
public:
    // The unspecified endpoint; it prints as "unspecified".
    endpoint() noexcept = default;

    // A numeric IPv4 or IPv6 address, without brackets, and a port from 0 (any) to 65535. The port
    // is an int, so that a number out of range is an error and does not become another port. An
    // IPv6 address may end in a scope, an interface by name or number: "fe80::1%eth0", "fe80::1%2".
    // Threads: any. Throws: std::invalid_argument. Cost: a system call for an interface name.
    endpoint(std::string_view address, int port);

    // Reads "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80", "unix:/run/x.sock", "unix:@abstract",
    // and every text that to_string() gives: parse(x.to_string()) == x for every endpoint x.
    // Threads: any. Throws: std::invalid_argument, with the text and the remedy.
    [[nodiscard]] static endpoint parse(std::string_view text);

    // any_v4 and any_v6: every address of this machine. loopback_v4 and loopback_v6: the machine
    // itself. The port is checked as above.
    // Threads: any. Throws: std::invalid_argument.
    [[nodiscard]] static endpoint any_v4(int port);
    [[nodiscard]] static endpoint any_v6(int port);
    [[nodiscard]] static endpoint loopback_v4(int port);
    [[nodiscard]] static endpoint loopback_v6(int port);

    // The path of a socket file, or "@name" for a name in Linux's abstract namespace. Each has at
    // most 107 bytes after the '@' (sun_path has 108). The bytes are taken as they are, without
    // escapes. Write a path that begins with '@' as "./@x".
    // Threads: any. Throws: std::invalid_argument.
    [[nodiscard]] static endpoint unix_path(std::string_view path);

    [[nodiscard]] address_family family() const noexcept { return family_; }

    // 0 for an endpoint that has no port.
    [[nodiscard]] int port() const noexcept { return port_; }

    // The same address with another port. Throws: std::invalid_argument, also if this endpoint has
    // no port.
    [[nodiscard]] endpoint with_port(int port) const;

    // The numeric address with its scope by number, "fe80::1%2"; empty unless IPv4 or IPv6.
    [[nodiscard]] std::string address() const;

    // The interface of a link-local IPv6 address; 0 for none.
    [[nodiscard]] std::uint32_t scope_id() const noexcept { return scope_id_; }

    // The path as it is, or "@name" if it is abstract; empty if unnamed or not local.
    [[nodiscard]] std::string path() const;
    [[nodiscard]] bool is_abstract() const noexcept;

    // 127.0.0.0/8, ::1, and IPv4 loopback mapped into IPv6. False for Unix sockets.
    [[nodiscard]] bool is_loopback() const noexcept;

    // In a path, the backslash becomes "\\". A byte becomes \xHH if it is not valid UTF-8, or if it
    // belongs to a control character, to a line separator, or to a character that is invisible or
    // changes the direction of writing. So a hostile peer's name cannot forge a line of a log. An
    // unnamed Unix socket is "unix:".
    [[nodiscard]] std::string to_string() const;

    // A total order with no meaning of its own, for maps and sorting.
    friend auto operator<=>(const endpoint&, const endpoint&) noexcept = default;
    friend bool operator==(const endpoint&, const endpoint&) noexcept = default;
    friend std::ostream& operator<<(std::ostream& out, const endpoint& value);

private:
    friend struct detail::sockaddr_access;
    friend struct std::hash<endpoint>;

    static constexpr std::size_t capacity_bytes = 108; // sizeof(sockaddr_un::sun_path)

    endpoint(address_family family, std::span<const std::byte> content, std::uint16_t port = 0,
             std::uint32_t scope_id = 0) noexcept;

    [[nodiscard]] std::span<const std::byte> content() const noexcept {
        return std::span{bytes_}.first(length_);
    }

    // The bytes after the first length_ are zero, so comparing the members compares the values.
    // There is no padding, because the hash reads the object's bytes.
    address_family family_ = address_family::unspecified;
    std::uint8_t length_ = 0;    // the bytes of bytes_ in use: 4, 16, or the length of the path
    std::uint16_t port_ = 0;     // in host order
    std::uint32_t scope_id_ = 0; // in host order
    // In network order; sun_path without its terminator.
    std::array<std::byte, capacity_bytes> bytes_{};
};

} // namespace creel::io
