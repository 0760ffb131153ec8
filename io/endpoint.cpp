#include <creel/io/endpoint.hpp>

#include <creel/fibers/printable.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <system_error>
#include <type_traits>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>

namespace creel::io {
namespace {

constexpr std::string_view unspecified_text = "unspecified";
constexpr std::string_view local_prefix = "unix:";
constexpr std::size_t path_limit_bytes = 107; // 108 less the terminator, or an abstract name's zero
constexpr char hex_digits[] = "0123456789abcdef";

bool is_control(char c) noexcept {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

bool is_digit(char c) noexcept {
    return c >= '0' && c <= '9';
}

bool is_unsigned_number(std::string_view text) noexcept {
    return !text.empty() && std::all_of(text.begin(), text.end(), is_digit);
}

void append_hex(std::string& out, char c) {
    const auto byte = static_cast<unsigned char>(c);
    out += "\\x";
    out += hex_digits[byte >> 4];
    out += hex_digits[byte & 15];
}

std::string escaped(std::string_view raw) {
    std::string out;
    out.reserve(raw.size());
    for (std::size_t i = 0; i < raw.size();) {
        const std::size_t shown = printable_bytes(raw.substr(i));
        if (shown == 0)
            append_hex(out, raw[i]);
        else if (raw[i] == '\\')
            out += "\\\\";
        else
            out += raw.substr(i, shown);
        i += std::max<std::size_t>(shown, 1);
    }
    return out;
}

// For messages. The text may come from anywhere: it is cut, and cannot break the line.
std::string quoted(std::string_view text) {
    constexpr std::size_t shown_bytes = 120;
    return '"' + escaped(text.substr(0, shown_bytes)) +
           (text.size() > shown_bytes ? "\"... (" + std::to_string(text.size()) + " bytes)" : "\"");
}

[[noreturn]] void refuse(std::string_view text, std::string_view why) {
    throw std::invalid_argument("creel: endpoint " + quoted(text) + ": " + std::string{why});
}

std::uint16_t checked_port(int port, std::string_view text) {
    if (port < 0 || port > 65535)
        refuse(text, "port " + std::to_string(port) + " is not from 0 to 65535");
    return static_cast<std::uint16_t>(port);
}

// Decimal, without sign, and without a leading zero, which others would read as octal.
template <class Number>
std::optional<Number> number_from(std::string_view text) noexcept {
    if (text.size() > 1 && text.front() == '0')
        return std::nullopt;
    Number value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

std::uint16_t port_from(std::string_view digits, std::string_view text) {
    const auto port = number_from<std::uint16_t>(digits);
    if (!port)
        refuse(text, "the port " + quoted(digits) +
                         " is not a plain decimal number from 0 to 65535 without leading zeros");
    return *port;
}

std::uint32_t scope_from(std::string_view scope, std::string_view text) {
    if (is_unsigned_number(scope)) {
        const auto number = number_from<std::uint32_t>(scope);
        if (!number)
            refuse(text, "the scope " + quoted(scope) +
                             " is not a plain decimal number below 2^32 without leading zeros");
        return *number;
    }
    if (scope.empty() || scope.size() >= IF_NAMESIZE || scope.find('\0') != scope.npos)
        refuse(text, "the scope after '%' must be the name or number of a network interface");
    const unsigned index = ::if_nametoindex(std::string{scope}.c_str());
    if (index == 0) {
        const int error_number = errno;
        refuse(text, error_number == ENODEV
                         ? "no network interface is called " + quoted(scope) +
                               "; `ip link` lists those there are"
                         : "cannot look up the network interface " + quoted(scope) + ": " +
                               std::generic_category().message(error_number));
    }
    return index;
}

// inet_pton wants a terminated string, and would take "::1" from "::1\0junk".
bool from_presentation(int family, std::string_view address, void* out) noexcept {
    char terminated[INET6_ADDRSTRLEN];
    if (address.size() >= sizeof terminated || address.find('\0') != address.npos)
        return false;
    std::copy(address.begin(), address.end(), terminated);
    terminated[address.size()] = '\0';
    return ::inet_pton(family, terminated, out) == 1;
}

struct ip_address {
    address_family family = address_family::unspecified;
    std::array<std::byte, 16> bytes{};
    std::uint32_t scope_id = 0;

    [[nodiscard]] std::span<const std::byte> content() const noexcept {
        return std::span{bytes}.first(family == address_family::ipv4 ? 4 : 16);
    }
};

std::optional<ip_address> ipv4_from(std::string_view address) noexcept {
    ip_address result{.family = address_family::ipv4};
    if (!from_presentation(AF_INET, address, result.bytes.data()))
        return std::nullopt;
    return result;
}

std::optional<ip_address> ipv6_from(std::string_view address, std::string_view text) {
    const auto percent = address.find('%');
    ip_address result{.family = address_family::ipv6};
    if (!from_presentation(AF_INET6, address.substr(0, percent), result.bytes.data()))
        return std::nullopt;
    if (percent != address.npos)
        result.scope_id = scope_from(address.substr(percent + 1), text);
    return result;
}

[[noreturn]] void refuse_address(std::string_view address, std::string_view text) {
    if (address.empty())
        refuse(text, "the address is missing; for every address of this machine write 0.0.0.0 "
                     "or ::");
    if (address.front() == '[')
        refuse(text, "an IPv6 address has brackets only in the form \"[::1]:80\"");
    refuse(text, quoted(address) + " is not a numeric IPv4 or IPv6 address; a host name must be "
                                   "resolved first, as by getaddrinfo inside creel::blocking, and "
                                   "IPv4 is four decimal numbers without "
                                   "leading zeros");
}

struct host_and_port {
    std::string_view host;
    std::string_view port;
    bool bracketed = false;
};

host_and_port split(std::string_view text) {
    if (text.starts_with('[')) {
        const auto end = text.find(']');
        if (end == text.npos)
            refuse(text, "the bracket is not closed; write \"[::1]:80\"");
        if (!text.substr(end + 1).starts_with(':'))
            refuse(text, "a colon and the port must follow the bracket, as in \"[::1]:80\"");
        return {text.substr(1, end - 1), text.substr(end + 2), true};
    }
    const auto colon = text.find(':');
    if (colon == text.npos)
        refuse(text, "the port is missing; write \"127.0.0.1:80\", \"[::1]:80\" or "
                     "\"unix:/path\"");
    if (text.find(':', colon + 1) != text.npos)
        refuse(text, "an IPv6 address and its port are written \"[::1]:80\"");
    return {text.substr(0, colon), text.substr(colon + 1)};
}

int hex_value(char c) noexcept {
    if (is_digit(c))
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

std::string unescaped(std::string_view path, std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < path.size(); ++i) {
        if (is_control(path[i]))
            refuse(text, "a control character in a path is written \\xHH, in hexadecimal");
        if (path[i] != '\\') {
            out += path[i];
        } else if (path.substr(i + 1).starts_with('\\')) {
            out += '\\';
            i += 1;
        } else if (path.size() - i >= 4 && path[i + 1] == 'x' && hex_value(path[i + 2]) >= 0 &&
                   hex_value(path[i + 3]) >= 0) {
            out += static_cast<char>(hex_value(path[i + 2]) * 16 + hex_value(path[i + 3]));
            i += 3;
        } else {
            refuse(text, "a backslash in a path is written \"\\\\\", another byte \\xHH");
        }
    }
    return out;
}

// The bytes of sun_path; an abstract name begins with a zero there, where people write '@'.
std::string sun_path_of(bool abstract, std::string name, std::size_t limit_bytes,
                        std::string_view text) {
    if (name.size() > limit_bytes)
        refuse(text, "the name of a Unix socket has at most " + std::to_string(limit_bytes) +
                         " bytes, this has " + std::to_string(name.size()) +
                         (abstract ? "; use a shorter one"
                                   : "; use a shorter directory or a relative path"));
    if (abstract)
        name.insert(name.begin(), '\0');
    else if (name.find('\0') != name.npos)
        refuse(text, "the path of a file cannot hold a zero byte");
    return name;
}

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
    auto ip = ipv4_from(address);
    if (!ip)
        ip = ipv6_from(address, address);
    if (!ip)
        refuse_address(address, address);
    *this = endpoint{ip->family, ip->content(), checked_port(port, address), ip->scope_id};
}

endpoint endpoint::parse(std::string_view text) {
    if (text == unspecified_text)
        return {};
    if (text.starts_with(local_prefix)) {
        auto name = text.substr(local_prefix.size());
        const bool abstract = name.starts_with('@');
        if (abstract)
            name.remove_prefix(1);
        // One byte more than unix_path() for a file, because the kernel lets a program bind all
        // 108 without a terminator, and what was printed must be read.
        const auto path = sun_path_of(abstract, unescaped(name, text),
                                      abstract ? path_limit_bytes : capacity_bytes, text);
        return endpoint{address_family::local, std::as_bytes(std::span{path})};
    }
    const auto parts = split(text);
    const auto ip = parts.bracketed ? ipv6_from(parts.host, text) : ipv4_from(parts.host);
    if (!ip && parts.bracketed)
        refuse(text, ipv4_from(parts.host)
                         ? "an IPv4 address is written without brackets, as in \"127.0.0.1:80\""
                         : "what is in the brackets is not a numeric IPv6 address, as in "
                           "\"[::1]:80\"");
    if (!ip)
        refuse_address(parts.host, text);
    return endpoint{ip->family, ip->content(), port_from(parts.port, text), ip->scope_id};
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
    if (path.empty())
        refuse(path, "the path of a Unix socket is empty; for an unnamed one parse \"unix:\"");
    const bool abstract = path.starts_with('@');
    const auto bytes =
        sun_path_of(abstract, std::string{path.substr(abstract ? 1 : 0)}, path_limit_bytes, path);
    return endpoint{address_family::local, std::as_bytes(std::span{bytes})};
}

endpoint endpoint::with_port(int port) const {
    if (family_ != address_family::ipv4 && family_ != address_family::ipv6)
        refuse(to_string(), "only IPv4 and IPv6 have ports");
    endpoint result = *this;
    result.port_ = checked_port(port, address());
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
        std::string result{local_prefix};
        std::string name = path();
        if (!is_abstract() && name.starts_with('@')) { // else it would be read as abstract
            append_hex(result, '@');
            name.erase(0, 1);
        }
        return result + escaped(name);
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
