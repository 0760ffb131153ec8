// Reads addresses from text: "127.0.0.1:80", "[fe80::1%eth0]:80", the name of a Unix socket.
//
// The forms are strict, so that two programs cannot read one text as two addresses. Each refusal
// is a std::invalid_argument that names the text and says how to write it instead.
#pragma once

#include <creel/io/endpoint.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace creel::io::detail {

constexpr std::string_view local_prefix = "unix:";

struct ip_endpoint {
    address_family family = address_family::unspecified;
    std::array<std::byte, 16> bytes{}; // in network order; IPv4 uses the first 4
    std::uint32_t scope_id = 0;
    std::uint16_t port = 0;

    [[nodiscard]] std::span<const std::byte> content() const noexcept {
        return std::span{bytes}.first(family == address_family::ipv4 ? 4 : 16);
    }
};

// An address without brackets.
// Threads: any. Throws: std::invalid_argument. Cost: a system call for an interface name.
[[nodiscard]] ip_endpoint ip_from(std::string_view address, int port);

// "127.0.0.1:80" or "[::1]:80". Threads: any. Throws: std::invalid_argument. Cost: as ip_from.
[[nodiscard]] ip_endpoint ip_and_port_from(std::string_view text);

// The bytes of sun_path for the form with the prefix "unix:" and escapes, and for a plain path. An
// abstract name begins with a zero byte there, and with '@' in both texts.
// Threads: any. Throws: std::invalid_argument.
[[nodiscard]] std::string sun_path_from_text(std::string_view text);
[[nodiscard]] std::string sun_path_from_path(std::string_view path);

// `text` is the address, for the message. Threads: any. Throws: std::invalid_argument.
[[nodiscard]] std::uint16_t checked_port(int port, std::string_view text);

} // namespace creel::io::detail
