#include <creel/io/detail/socket/endpoint_parser.hpp>

#include <creel/io/detail/socket/endpoint_text.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <system_error>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/un.h>

namespace creel::io::detail {
namespace {

constexpr std::size_t sun_path_bytes = sizeof(sockaddr_un::sun_path);
constexpr std::size_t name_limit_bytes = sun_path_bytes - 1; // the terminator, or the first zero

bool is_unsigned_number(std::string_view text) noexcept {
    return !text.empty() &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Decimal, without sign, and without a leading zero, which some programs read as octal.
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
        refuse_endpoint(text,
                        "the port " + quoted(digits) +
                            " is not a plain decimal number from 0 to 65535 without leading zeros");
    return *port;
}

std::uint32_t scope_from(std::string_view scope, std::string_view text) {
    if (is_unsigned_number(scope)) {
        const auto number = number_from<std::uint32_t>(scope);
        if (!number)
            refuse_endpoint(text,
                            "the scope " + quoted(scope) +
                                " is not a plain decimal number below 2^32 without leading zeros");
        return *number;
    }
    if (scope.empty() || scope.size() >= IF_NAMESIZE || scope.find('\0') != scope.npos)
        refuse_endpoint(text,
                        "the scope after '%' must be the name or number of a network interface");
    const unsigned index = ::if_nametoindex(std::string{scope}.c_str());
    if (index == 0) {
        const int error_number = errno;
        refuse_endpoint(text, error_number == ENODEV
                                  ? "no network interface is called " + quoted(scope) +
                                        "; `ip link` lists those there are"
                                  : "cannot look up the network interface " + quoted(scope) + ": " +
                                        std::generic_category().message(error_number));
    }
    return index;
}

// inet_pton needs a terminated string. Without the check for a zero byte it would read "::1" from
// "::1\0junk".
bool from_presentation(int family, std::string_view address, void* out) noexcept {
    char terminated[INET6_ADDRSTRLEN];
    if (address.size() >= sizeof terminated || address.find('\0') != address.npos)
        return false;
    std::copy(address.begin(), address.end(), terminated);
    terminated[address.size()] = '\0';
    return ::inet_pton(family, terminated, out) == 1;
}

std::optional<ip_endpoint> ipv4_from(std::string_view address) noexcept {
    ip_endpoint result{.family = address_family::ipv4};
    if (!from_presentation(AF_INET, address, result.bytes.data()))
        return std::nullopt;
    return result;
}

std::optional<ip_endpoint> ipv6_from(std::string_view address, std::string_view text) {
    const auto percent = address.find('%');
    ip_endpoint result{.family = address_family::ipv6};
    if (!from_presentation(AF_INET6, address.substr(0, percent), result.bytes.data()))
        return std::nullopt;
    if (percent != address.npos)
        result.scope_id = scope_from(address.substr(percent + 1), text);
    return result;
}

[[noreturn]] void refuse_address(std::string_view address, std::string_view text) {
    if (address.empty())
        refuse_endpoint(text, "the address is missing; for every address of this machine write "
                              "0.0.0.0 or ::");
    if (address.front() == '[')
        refuse_endpoint(text, "an IPv6 address has brackets only in the form \"[::1]:80\"");
    refuse_endpoint(text, quoted(address) +
                              " is not a numeric IPv4 or IPv6 address; a host name must be "
                              "resolved first, for example by getaddrinfo inside "
                              "creel::blocking, and IPv4 is four decimal numbers without "
                              "leading zeros");
}

struct host_and_port {
    std::string_view host;
    std::string_view port;
    bool bracketed = false;
};

host_and_port split_port(std::string_view text) {
    if (text.starts_with('[')) {
        const auto end = text.find(']');
        if (end == text.npos)
            refuse_endpoint(text, "the bracket is not closed; write \"[::1]:80\"");
        if (!text.substr(end + 1).starts_with(':'))
            refuse_endpoint(text,
                            "a colon and the port must follow the bracket, as in \"[::1]:80\"");
        return {text.substr(1, end - 1), text.substr(end + 2), true};
    }
    const auto colon = text.find(':');
    if (colon == text.npos)
        refuse_endpoint(text, "the port is missing; write \"127.0.0.1:80\", \"[::1]:80\" or "
                              "\"unix:/path\"");
    if (text.find(':', colon + 1) != text.npos)
        refuse_endpoint(text, "an IPv6 address and its port are written \"[::1]:80\"");
    return {text.substr(0, colon), text.substr(colon + 1)};
}

std::string sun_path_of(bool abstract, std::string name, std::size_t limit_bytes,
                        std::string_view text) {
    if (name.size() > limit_bytes)
        refuse_endpoint(text, "the name of a Unix socket has at most " +
                                  std::to_string(limit_bytes) + " bytes, this has " +
                                  std::to_string(name.size()) +
                                  (abstract ? "; use a shorter one"
                                            : "; use a shorter directory or a relative path"));
    if (abstract)
        name.insert(name.begin(), '\0');
    else if (name.find('\0') != name.npos)
        refuse_endpoint(text, "the path of a file cannot hold a zero byte");
    return name;
}

} // namespace

ip_endpoint ip_from(std::string_view address, int port) {
    auto ip = ipv4_from(address);
    if (!ip)
        ip = ipv6_from(address, address);
    if (!ip)
        refuse_address(address, address);
    ip->port = checked_port(port, address);
    return *ip;
}

ip_endpoint ip_and_port_from(std::string_view text) {
    const auto parts = split_port(text);
    auto ip = parts.bracketed ? ipv6_from(parts.host, text) : ipv4_from(parts.host);
    if (!ip && parts.bracketed)
        refuse_endpoint(text,
                        ipv4_from(parts.host)
                            ? "an IPv4 address is written without brackets, as in \"127.0.0.1:80\""
                            : "the text in the brackets is not a numeric IPv6 address, as in "
                              "\"[::1]:80\"");
    if (!ip)
        refuse_address(parts.host, text);
    ip->port = port_from(parts.port, text);
    return *ip;
}

// A file's path may have one byte more here than in sun_path_from_path(): the kernel lets a program
// bind all 108 bytes without a terminator, and parse() reads every text that to_string() gives.
std::string sun_path_from_text(std::string_view text) {
    auto name = text.substr(local_prefix.size());
    const bool abstract = name.starts_with('@');
    if (abstract)
        name.remove_prefix(1);
    return sun_path_of(abstract, unescaped(name, text),
                       abstract ? name_limit_bytes : sun_path_bytes, text);
}

std::string sun_path_from_path(std::string_view path) {
    if (path.empty())
        refuse_endpoint(path,
                        "the path of a Unix socket is empty; for an unnamed one parse \"unix:\"");
    const bool abstract = path.starts_with('@');
    return sun_path_of(abstract, std::string{path.substr(abstract ? 1 : 0)}, name_limit_bytes,
                       path);
}

std::uint16_t checked_port(int port, std::string_view text) {
    if (port < 0 || port > 65535)
        refuse_endpoint(text, "port " + std::to_string(port) + " is not from 0 to 65535");
    return static_cast<std::uint16_t>(port);
}

} // namespace creel::io::detail
