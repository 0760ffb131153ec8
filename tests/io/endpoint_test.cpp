#include <creel/io/endpoint.hpp>

#include "support/check.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/printable.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <compare>
#include <concepts>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <unordered_set>
#include <vector>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <creel/io/detail/socket/sockaddr.hpp>

namespace io = creel::io;
using io::address_family;
using io::endpoint;
using namespace std::string_literals;

namespace {

// The message of the invalid_argument that f throws; empty if f does not throw.
template <class Function>
std::string refusal(Function f) {
    try {
        static_cast<void>(f());
    } catch (const std::invalid_argument& error) {
        return error.what();
    }
    return {};
}

std::string parse_refusal(std::string_view text) {
    return refusal([&] { return endpoint::parse(text); });
}

endpoint from_storage(const sockaddr_storage& storage, socklen_t length) {
    return io::detail::endpoint_from(reinterpret_cast<const sockaddr*>(&storage), length);
}

endpoint through_sockaddr(const endpoint& value) {
    sockaddr_storage storage;
    std::memset(&storage, 0xa5, sizeof storage);
    const auto length = io::detail::sockaddr_of(value, storage);
    return from_storage(storage, length);
}

bool all_shown(std::string_view text) {
    while (!text.empty()) {
        const std::size_t shown = creel::printable_bytes(text);
        if (shown == 0)
            return false;
        text.remove_prefix(shown);
    }
    return true;
}

// The properties that every value has.
void check_laws(const endpoint& value) {
    const auto text = value.to_string();
    INFO("endpoint: " << text);
    const auto read_back = endpoint::parse(text);
    CHECK(read_back == value);
    CHECK(read_back.to_string() == text);
    CHECK(std::hash<endpoint>{}(read_back) == std::hash<endpoint>{}(value));
    CHECK(std::is_eq(read_back <=> value));
    CHECK(through_sockaddr(value) == value);
    CHECK(all_shown(text));
}

class socket_descriptor {
public:
    explicit socket_descriptor(int number) : number_(number) {
        if (number < 0)
            throw std::system_error(errno, std::generic_category(), "socket");
    }
    socket_descriptor(const socket_descriptor&) = delete;
    socket_descriptor& operator=(const socket_descriptor&) = delete;
    ~socket_descriptor() { ::close(number_); }
    [[nodiscard]] int get() const noexcept { return number_; }

private:
    int number_;
};

// The address that the kernel reports for a socket bound to the value; errno if bind fails.
struct bound {
    int error_number = 0;
    endpoint name{};
};

bound bind_to(const endpoint& value, int family) {
    const socket_descriptor socket{::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_storage storage;
    auto length = io::detail::sockaddr_of(value, storage);
    if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&storage), length) != 0)
        return {errno, {}};
    length = sizeof storage;
    ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&storage), &length);
    return {0, from_storage(storage, length)};
}

class temporary_directory {
public:
    temporary_directory() {
        if (::mkdtemp(name_.data()) == nullptr)
            throw std::runtime_error("mkdtemp");
    }
    temporary_directory(const temporary_directory&) = delete;
    temporary_directory& operator=(const temporary_directory&) = delete;
    ~temporary_directory() { ::rmdir(name_.c_str()); }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }

private:
    std::string name_ = "/tmp/creel-endpoint-XXXXXX";
};

} // namespace

TEST_CASE("an endpoint is a regular value") {
    static_assert(std::regular<endpoint>);
    static_assert(std::three_way_comparable<endpoint, std::strong_ordering>);
    static_assert(std::is_trivially_copyable_v<endpoint>);
    static_assert(std::is_nothrow_default_constructible_v<endpoint>);
    static_assert(sizeof(endpoint) <= 128);
    static_assert(!std::is_convertible_v<const char*, endpoint>);
    CHECK(endpoint{} == endpoint{});
    CHECK(endpoint{}.family() == address_family::unspecified);
}

TEST_CASE("an IPv4 endpoint shows its parts") {
    const endpoint value{"127.0.0.1", 8080};
    CHECK(value.family() == address_family::ipv4);
    CHECK(value.address() == "127.0.0.1");
    CHECK(value.port() == 8080);
    CHECK(value.scope_id() == 0);
    CHECK(value.path().empty());
    CHECK_FALSE(value.is_abstract());
    CHECK(value.to_string() == "127.0.0.1:8080");
    std::ostringstream stream;
    stream << value;
    CHECK(stream.str() == "127.0.0.1:8080");
    check_laws(value);
}

TEST_CASE("an IPv6 endpoint shows its parts in the shortest form") {
    const endpoint value{"2001:0DB8:0:0:0:0:0:0001", 65535};
    CHECK(value.family() == address_family::ipv6);
    CHECK(value.address() == "2001:db8::1");
    CHECK(value.port() == 65535);
    CHECK(value.to_string() == "[2001:db8::1]:65535");
    check_laws(value);
    check_laws(endpoint{"::", 0});
    check_laws(endpoint{"::ffff:10.1.2.3", 1});
    check_laws(endpoint{"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255%4294967295", 65535});
}

TEST_CASE("a scope is read by interface name and by number, and printed by number") {
    const auto loopback = ::if_nametoindex("lo");
    REQUIRE(loopback > 0);
    const auto by_name = endpoint::parse("[fe80::1%lo]:80");
    CHECK(by_name.scope_id() == loopback);
    CHECK(by_name == endpoint{"fe80::1%" + std::to_string(loopback), 80});
    CHECK(by_name.to_string() == "[fe80::1%" + std::to_string(loopback) + "]:80");
    check_laws(by_name);

    const auto by_number = endpoint::parse("[fe80::1%4294967295]:80");
    CHECK(by_number.scope_id() == 4294967295U);
    CHECK(by_number.address() == "fe80::1%4294967295");
    check_laws(by_number);
    CHECK(by_number != by_name);
    CHECK(endpoint::parse("[fe80::1%0]:80") == endpoint{"fe80::1", 80});
}

TEST_CASE("a bad scope is refused with what is wrong") {
    using Catch::Contains;
    CHECK_THAT(parse_refusal("[fe80::1%nosuchnic]:80"),
               Contains("no network interface is called \"nosuchnic\"") && Contains("ip link"));
    for (const auto* text : {"[fe80::1%]:80", "[fe80::1%an-interface-too-long]:80"})
        CHECK_THAT(parse_refusal(text), Contains("name or number of a network interface"));
    for (const auto* text : {"[fe80::1%01]:80", "[fe80::1%4294967296]:80", "[fe80::1%00]:80",
                             "[fe80::1%99999999999999999999999]:80"})
        CHECK_THAT(parse_refusal(text), Contains("plain decimal number below 2^32"));
    for (const auto* text : {"[fe80::1%lo%lo]:80", "[fe80::1%+1]:80", "[fe80::1% 1]:80"})
        CHECK_THAT(parse_refusal(text), Contains("no network interface"));
    CHECK_FALSE(parse_refusal("[fe80::1%lo\0x]:80"s).empty());
    CHECK_FALSE(parse_refusal("127.0.0.1%lo:80").empty());
}

TEST_CASE("the factories name what they say") {
    CHECK(endpoint::any_v4(80).to_string() == "0.0.0.0:80");
    CHECK(endpoint::any_v6(80).to_string() == "[::]:80");
    CHECK(endpoint::loopback_v4(0).to_string() == "127.0.0.1:0");
    CHECK(endpoint::loopback_v6(65535).to_string() == "[::1]:65535");
    CHECK(endpoint::unix_path("/run/x.sock").to_string() == "unix:/run/x.sock");
    CHECK(endpoint::unix_path("@x").to_string() == "unix:@x");
}

TEST_CASE("a port out of range is refused and never cut to another one") {
    using Catch::Contains;
    for (const int port : {-1, 65536, 65536 + 80, std::numeric_limits<int>::min(),
                           std::numeric_limits<int>::max()}) {
        const auto named = "port " + std::to_string(port) + " is not from 0 to 65535";
        CHECK_THAT(refusal([&] {
                       return endpoint{"127.0.0.1", port};
                   }),
                   Contains(named) && Contains("\"127.0.0.1\""));
        CHECK_THAT(refusal([&] { return endpoint::any_v4(port); }), Contains(named));
        CHECK_THAT(refusal([&] { return endpoint::any_v6(port); }), Contains(named));
        CHECK_THAT(refusal([&] { return endpoint::loopback_v4(port); }), Contains(named));
        CHECK_THAT(refusal([&] { return endpoint::loopback_v6(port); }), Contains(named));
        CHECK_THAT(refusal([&] { return endpoint::any_v4(1).with_port(port); }), Contains(named));
    }
}

TEST_CASE("with_port changes the port alone") {
    const auto value = endpoint::parse("[fe80::1%7]:80");
    CHECK(value.with_port(81) == endpoint::parse("[fe80::1%7]:81"));
    CHECK(value.port() == 80);
    CHECK_THAT(refusal([] { return endpoint::unix_path("/x").with_port(1); }),
               Catch::Contains("\"unix:/x\"") && Catch::Contains("only IPv4 and IPv6"));
    CHECK_FALSE(refusal([] { return endpoint{}.with_port(1); }).empty());
}

TEST_CASE("loopback is told from what only looks like it") {
    for (const auto* address :
         {"127.0.0.1", "127.255.255.255", "127.0.0.0", "::1", "::ffff:127.0.0.1"})
        CHECK(endpoint{address, 1}.is_loopback());
    for (const auto* address : {"0.0.0.0", "128.0.0.1", "126.255.255.255", "10.127.0.1", "::",
                                "::2", "::127.0.0.1", "::ffff:128.0.0.1", "fe80::1", "7f00::1"})
        CHECK_FALSE(endpoint{address, 1}.is_loopback());
    CHECK_FALSE(endpoint::unix_path("/run/x").is_loopback());
    CHECK_FALSE(endpoint{}.is_loopback());
}

TEST_CASE("a host name is refused with the remedy") {
    using Catch::Contains;
    for (const auto& message : {refusal([] {
                                    return endpoint{"localhost", 80};
                                }),
                                parse_refusal("localhost:80")}) {
        CHECK_THAT(message, Contains("\"localhost\" is not a numeric IPv4 or IPv6 address") &&
                                Contains("resolved first"));
    }
}

TEST_CASE("an address that is not strictly numeric is refused") {
    for (const auto& address : {""s,
                                " "s,
                                "127.0.0"s,
                                "127.1"s,
                                "127.0.0.1.1"s,
                                "127.0.0.01"s,
                                "0127.0.0.1"s,
                                "010.0.0.1"s,
                                "0x7f.0.0.1"s,
                                "2130706433"s,
                                "256.0.0.1"s,
                                "127.0.0.1 "s,
                                " 127.0.0.1"s,
                                "127.0.0.1\n"s,
                                "127.0.0.1\0"s,
                                "127.0.0.1\0junk"s,
                                "127.0.0.-1"s,
                                "127..0.1"s,
                                "[::1]"s,
                                "::1::"s,
                                ":::"s,
                                ":"s,
                                "1:2:3:4:5:6:7"s,
                                "1:2:3:4:5:6:7:8:9"s,
                                "::12345"s,
                                "::g"s,
                                "::1 "s,
                                "::1\0"s,
                                "::1%lo\0"s,
                                "::1.2.3.04"s,
                                "*"s,
                                "127.0.0.1:80"s,
                                std::string(45, '1'),
                                std::string(46, ':'),
                                std::string(100'000, '1')}) {
        const auto message = refusal([&] { return endpoint{address, 80}; });
        INFO("address: " << address.substr(0, 50) << " message: " << message);
        CHECK_FALSE(message.empty());
        CHECK(message.size() < 1'000);
        CHECK(message.find('\n') == std::string::npos);
    }
}

TEST_CASE("text that is not exactly an endpoint is refused with the remedy") {
    using Catch::Contains;
    struct refused {
        std::string text;
        const char* remedy;
    };
    const std::vector<refused> cases{
        {"", "the port is missing"},
        {"127.0.0.1", "the port is missing"},
        {":80", "the address is missing"},
        {":", "the address is missing"},
        {"127.0.0.1:", "the port \"\""},
        {"127.0.0.1:080", "without leading zeros"},
        {"127.0.0.1:00", "without leading zeros"},
        {"127.0.0.1:65536", "from 0 to 65535"},
        {"127.0.0.1:184467440737095516160", "from 0 to 65535"},
        {"127.0.0.1:+80", "plain decimal"},
        {"127.0.0.1:-1", "plain decimal"},
        {"127.0.0.1: 80", "plain decimal"},
        {"127.0.0.1:80 ", "plain decimal"},
        {"127.0.0.1:80\n", "plain decimal"},
        {"127.0.0.1:80/", "plain decimal"},
        {"127.0.0.1:http", "plain decimal"},
        {"127.0.0.1:0x50", "plain decimal"},
        {"127.0.0.1:80"s + '\0', "plain decimal"},
        {" 127.0.0.1:80", "not a numeric"},
        {"127.0.0.01:80", "not a numeric"},
        {"127.0.0.1:80:80", "\"[::1]:80\""},
        {"::1:80", "\"[::1]:80\""},
        {"::1", "\"[::1]:80\""},
        {"[::1", "not closed"},
        {"[", "not closed"},
        {"[::1]", "must follow the bracket"},
        {"[::1]80", "must follow the bracket"},
        {"[::1] :80", "must follow the bracket"},
        {"[::1]:", "the port \"\""},
        {"[::1]:80]", "plain decimal"},
        {"[::1]:80:80", "plain decimal"},
        {"[127.0.0.1]:80", "without brackets, as in \"127.0.0.1:80\""},
        {"[]:80", "not a numeric IPv6"},
        {"[[::1]]:80", "must follow the bracket"},
        {"[ ::1]:80", "not a numeric IPv6"},
        {"/run/x.sock", "unix:/path"},
        {"UNIX:/run/x.sock", "not a numeric"},
        {"unspecified ", "the port is missing"},
        {"unix:/run/x.sock\n", "control character"},
        {"unix:/a"s + '\0' + "b", "control character"},
        {"unix:/a\\x00b", "zero byte"},
        {"unix:/a\\", "backslash"},
        {"unix:/a\\n", "backslash"},
        {"unix:/a\\x", "backslash"},
        {"unix:/a\\x4", "backslash"},
        {"unix:/a\\x4g", "backslash"},
        {"unix:/a\\xg4", "backslash"},
        {"unix:/a\\X41", "backslash"},
    };
    for (const auto& [text, remedy] : cases) {
        INFO("text: " << text);
        CHECK_THAT(parse_refusal(text),
                   Contains(remedy) && Catch::StartsWith("creel: endpoint \""));
    }
}

TEST_CASE("a message shows a long or hostile text cut and on one line") {
    const auto message = parse_refusal("evil\r\n\x1b[31m" + std::string(1'000'000, 'x'));
    CHECK_THAT(message, Catch::StartsWith("creel: endpoint \"evil\\x0d\\x0a\\x1b[31mxxx"));
    CHECK_THAT(message, Catch::Contains("(1000011 bytes)"));
    CHECK(message.size() < 1'000);
}

TEST_CASE("a Unix path is kept byte for byte") {
    for (const auto& path :
         {"/run/x.sock"s, "x"s, "./@x"s, "/a b"s, "/tmp/\xc3\xa9"s, "/back\\slash"s, "/new\nline"s,
          "/\x7f\x01\xff"s, "/x%1:80]"s, std::string(107, 'p')}) {
        const auto value = endpoint::unix_path(path);
        CHECK(value.family() == address_family::local);
        CHECK(value.path() == path);
        CHECK_FALSE(value.is_abstract());
        CHECK(value.address().empty());
        CHECK(value.port() == 0);
        check_laws(value);
    }
    CHECK(endpoint::unix_path("/a\nb\\").to_string() == "unix:/a\\x0ab\\\\");
    CHECK(endpoint::parse("unix:/\\x41\\x6A\\\\") == endpoint::unix_path("/Aj\\"));
}

TEST_CASE("an abstract name is kept byte for byte, zeros included") {
    for (const auto& path : {"@x"s, "@"s, "@@"s, "@a\0b\0"s, "@a\0b"s, "@/run/x"s,
                             "@" + std::string(107, '\0'), "@" + std::string(107, 'n')}) {
        const auto value = endpoint::unix_path(path);
        CHECK(value.family() == address_family::local);
        CHECK(value.path() == path);
        CHECK(value.is_abstract());
        check_laws(value);
    }
    CHECK(endpoint::unix_path("@a\0"s) != endpoint::unix_path("@a"));
    CHECK(endpoint::unix_path("@a\0"s).to_string() == "unix:@a\\x00");
    CHECK(endpoint::unix_path("@x") != endpoint::unix_path("x"));
}

TEST_CASE("a file whose path begins with an at sign is not taken for an abstract name") {
    const auto file = endpoint::parse("unix:\\x40x");
    CHECK_FALSE(file.is_abstract());
    CHECK(file.path() == "@x");
    CHECK(file != endpoint::unix_path("@x"));
    CHECK(file.to_string() == "unix:\\x40x");
    check_laws(file);
}

TEST_CASE("a Unix path that does not fit is refused with the limit and its own length") {
    using Catch::Contains;
    for (const auto& path : {std::string(108, 'p'), "@" + std::string(108, 'p')})
        CHECK_THAT(refusal([&] { return endpoint::unix_path(path); }),
                   Contains("at most 107 bytes") && Contains("this has 108"));
    CHECK_THAT(parse_refusal("unix:@" + std::string(108, 'p')), Contains("at most 107 bytes"));
    CHECK_THAT(parse_refusal("unix:" + std::string(109, 'p')), Contains("this has 109"));
    CHECK_THAT(refusal([] { return endpoint::unix_path(""); }), Contains("empty"));
    CHECK_THAT(refusal([] { return endpoint::unix_path("/a\0b"s); }), Contains("zero byte"));
}

TEST_CASE("the unspecified and the unnamed endpoint print and parse") {
    CHECK(endpoint{}.to_string() == "unspecified");
    check_laws(endpoint{});
    const auto unnamed = endpoint::parse("unix:");
    CHECK(unnamed.family() == address_family::local);
    CHECK(unnamed.path().empty());
    CHECK_FALSE(unnamed.is_abstract());
    CHECK(unnamed != endpoint{});
    check_laws(unnamed);
}

TEST_CASE("endpoints that differ in one part differ, order and hash") {
    const std::vector<endpoint> values{
        {},
        endpoint{"127.0.0.1", 80},
        endpoint{"127.0.0.1", 81},
        endpoint{"127.0.0.2", 80},
        endpoint{"0.0.0.0", 80},
        endpoint{"::ffff:127.0.0.1", 80},
        endpoint{"::", 80},
        endpoint{"fe80::1", 80},
        endpoint{"fe80::1%1", 80},
        endpoint{"fe80::1%2", 80},
        endpoint{"fe80::1%2", 81},
        endpoint::parse("unix:"),
        endpoint::unix_path("a"),
        endpoint::unix_path("aa"),
        endpoint::unix_path("b"),
        endpoint::unix_path("@a"),
        endpoint::unix_path("@a\0"s),
        endpoint::unix_path("@"),
    };
    const std::set<endpoint> ordered(values.begin(), values.end());
    const std::unordered_set<endpoint> hashed(values.begin(), values.end());
    CHECK(ordered.size() == values.size());
    CHECK(hashed.size() == values.size());
    std::set<std::size_t> hashes;
    for (const auto& value : values) {
        hashes.insert(std::hash<endpoint>{}(value));
        CHECK(std::count(values.begin(), values.end(), value) == 1);
    }
    CHECK(hashes.size() == values.size());
}

TEST_CASE("the kernel takes an endpoint and gives the same one back") {
    const auto v4 = bind_to(endpoint::loopback_v4(0), AF_INET);
    CHECK(v4.error_number == 0);
    CHECK(v4.name.port() != 0);
    CHECK(v4.name == endpoint::loopback_v4(v4.name.port()));

    const auto abstract = endpoint::unix_path("@creel-endpoint-" + std::to_string(::getpid()));
    CHECK(bind_to(abstract, AF_UNIX).name == abstract);

    const temporary_directory directory;
    // 108 bytes bind without a terminator; the kernel reports them with a length that counts one.
    for (const std::size_t length : {40U, 107U, 108U}) {
        const auto path =
            directory.name() + "/" + std::string(length - directory.name().size() - 1, 'p');
        const auto file = endpoint::parse("unix:" + path);
        const auto result = bind_to(file, AF_UNIX);
        ::unlink(path.c_str());
        INFO("length: " << length);
        CHECK(result.error_number == 0);
        CHECK(result.name == file);
        CHECK(result.name.path() == path);
        check_laws(result.name);
    }

    const auto automatic = bind_to(endpoint::parse("unix:"), AF_UNIX);
    CHECK(automatic.error_number == 0);
    CHECK(automatic.name.is_abstract());
    check_laws(automatic.name);
}

TEST_CASE("the kernel takes an IPv6 endpoint with its scope") {
    const socket_descriptor probe{::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const auto v6 = bind_to(endpoint::loopback_v6(0), AF_INET6);
    if (v6.error_number == EADDRNOTAVAIL) {
        WARN("IPv6 is disabled on this machine's loopback");
        return;
    }
    CHECK(v6.error_number == 0);
    CHECK(v6.name == endpoint::loopback_v6(v6.name.port()));
    // No machine has this link-local address. To report that the kernel must read the scope;
    // without a scope it reports EINVAL.
    CHECK(bind_to(endpoint{"fe80::dead:beef%lo", 0}, AF_INET6).error_number == EADDRNOTAVAIL);
    CHECK(bind_to(endpoint{"fe80::dead:beef", 0}, AF_INET6).error_number == EINVAL);
}

TEST_CASE("the peers of a socket pair are unnamed, and round-trip") {
    std::array<int, 2> pair{};
    REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) == 0);
    const socket_descriptor first{pair[0]};
    const socket_descriptor second{pair[1]};
    sockaddr_storage storage;
    std::memset(&storage, 0xa5, sizeof storage);
    socklen_t length = sizeof storage;
    REQUIRE(::getpeername(first.get(), reinterpret_cast<sockaddr*>(&storage), &length) == 0);
    const auto peer = from_storage(storage, length);
    CHECK(peer == endpoint::parse("unix:"));
    CHECK(peer.to_string() == "unix:");
    sockaddr_storage again;
    CHECK(io::detail::sockaddr_of(peer, again) == length);
    CHECK(again.ss_family == AF_UNIX);
}

TEST_CASE("a sockaddr has the layout and the length the kernel wants") {
    sockaddr_storage storage;
    CHECK(io::detail::sockaddr_of(endpoint{"1.2.3.4", 0x1234}, storage) == sizeof(sockaddr_in));
    sockaddr_in v4{};
    std::memcpy(&v4, &storage, sizeof v4);
    CHECK(v4.sin_family == AF_INET);
    CHECK(ntohs(v4.sin_port) == 0x1234);
    CHECK(ntohl(v4.sin_addr.s_addr) == 0x01020304);

    CHECK(io::detail::sockaddr_of(endpoint{"102::304%9", 0x1234}, storage) == sizeof(sockaddr_in6));
    sockaddr_in6 v6{};
    std::memcpy(&v6, &storage, sizeof v6);
    CHECK(v6.sin6_family == AF_INET6);
    CHECK(ntohs(v6.sin6_port) == 0x1234);
    CHECK(v6.sin6_scope_id == 9);
    CHECK(v6.sin6_flowinfo == 0);
    CHECK(v6.sin6_addr.s6_addr[0] == 1);
    CHECK(v6.sin6_addr.s6_addr[1] == 2);
    CHECK(v6.sin6_addr.s6_addr[15] == 4);

    constexpr socklen_t header = offsetof(sockaddr_un, sun_path);
    CHECK(io::detail::sockaddr_of(endpoint::unix_path("abc"), storage) == header + 4);
    CHECK(io::detail::sockaddr_of(endpoint::unix_path("@abc"), storage) == header + 4);
    CHECK(io::detail::sockaddr_of(endpoint::unix_path("@"), storage) == header + 1);
    CHECK(io::detail::sockaddr_of(endpoint::unix_path(std::string(107, 'p')), storage) ==
          sizeof(sockaddr_un));
    CHECK(io::detail::sockaddr_of(endpoint::parse("unix:"), storage) == header);
    CHECK(io::detail::sockaddr_of(endpoint{}, storage) == sizeof(sa_family_t));
    CHECK(storage.ss_family == AF_UNSPEC);
}

TEST_CASE("a sockaddr that is short, unaligned, truncated or of an unknown family is survived") {
    const auto of_bytes = [](const std::vector<unsigned char>& bytes, socklen_t length) {
        return io::detail::endpoint_from(reinterpret_cast<const sockaddr*>(bytes.data()), length);
    };
    CHECK(io::detail::endpoint_from(nullptr, 0) == endpoint{});
    CHECK(io::detail::endpoint_from(nullptr, 16) == endpoint{});

    for (const auto* text : {"1.2.3.4:80", "[::1%3]:80"}) {
        const auto value = endpoint::parse(text);
        sockaddr_storage storage;
        const auto whole = io::detail::sockaddr_of(value, storage);
        for (socklen_t length = 0; length < whole; ++length) {
            // Exactly as long as its length, so that ASan sees a read of one byte too many.
            const auto* raw = reinterpret_cast<const unsigned char*>(&storage);
            CHECK(of_bytes({raw, raw + length}, length) == endpoint{});
        }
        std::vector<unsigned char> shifted(whole + 1);
        std::memcpy(shifted.data() + 1, &storage, whole);
        CHECK(io::detail::endpoint_from(reinterpret_cast<const sockaddr*>(shifted.data() + 1),
                                        whole) == value);
    }

    sockaddr_storage storage;
    std::memset(&storage, 'p', sizeof storage);
    storage.ss_family = AF_UNIX;
    for (socklen_t length : {110U, 111U, 128U, 129U, 4096U}) {
        const auto value = from_storage(storage, length);
        CHECK(value.path() == std::string(108, 'p'));
        check_laws(value);
    }
    storage.ss_family = AF_NETLINK;
    CHECK(from_storage(storage, sizeof storage) == endpoint{});
}

TEST_CASE(
    "no name of a Unix socket forges a line of a log, and one that people can read is shown") {
    struct shown {
        std::string name;
        const char* text;
    };
    const std::vector<shown> cases{
        {"@\xc2\x9b"
         "31mred\xc2\x85 10.0.0.1 logged in\xe2\x80\xa8x",
         "unix:@\\xc2\\x9b31mred\\xc2\\x85 10.0.0.1 logged in\\xe2\\x80\\xa8x"},
        {"@\x9b[2J\x7f", "unix:@\\x9b[2J\\x7f"}, // C1 as a byte
        {"/a\xe2\x80\xaetxt.\xe2\x81\xa6", "unix:/a\\xe2\\x80\\xaetxt.\\xe2\\x81\\xa6"}, // bidi
        {"/\xef\xbb\xbf\xc2\xad", "unix:/\\xef\\xbb\\xbf\\xc2\\xad"},          // invisible
        {"/\xc0\x8a\xed\xa0\x80", "unix:/\\xc0\\x8a\\xed\\xa0\\x80"},          // overlong, half
        {"/\xf4\x90\x80\x80\xe2\x80", "unix:/\\xf4\\x90\\x80\\x80\\xe2\\x80"}, // beyond, cut
        {"/\xc3\xa9\xe6\x97\xa5\xf0\x9f\xa7\xb5", "unix:/\xc3\xa9\xe6\x97\xa5\xf0\x9f\xa7\xb5"},
        {"/\xc2\xa0\xe2\x80\xaf\xf4\x8f\xbf\xbf", "unix:/\xc2\xa0\xe2\x80\xaf\xf4\x8f\xbf\xbf"},
    };
    for (const auto& [name, text] : cases) {
        CHECK(endpoint::unix_path(name).to_string() == text);
        check_laws(endpoint::unix_path(name));
    }
}

TEST_CASE("a random endpoint is read back from what it prints") {
    const auto seed = std::random_device{}();
    INFO("seed: " << seed);
    std::mt19937 random{seed};
    const auto below = [&](std::size_t limit) {
        return std::uniform_int_distribution<std::size_t>{0, limit - 1}(random);
    };
    for (int round = 0; round < 3'000; ++round) {
        sockaddr_storage storage;
        auto* bytes = reinterpret_cast<unsigned char*>(&storage);
        // Mostly zeros, so that all the shortened forms of IPv6 occur.
        const bool sparse = below(2) == 0;
        std::generate_n(bytes, sizeof storage, [&] {
            return static_cast<unsigned char>(sparse && below(4) != 0 ? 0 : below(256));
        });
        const std::array<sa_family_t, 3> families{AF_INET, AF_INET6, AF_UNIX};
        storage.ss_family = families[below(families.size())];
        // Random bytes are hardly ever UTF-8.
        const std::array<std::string_view, 6> pieces{
            "\xc2\x9b", "\xe2\x80\xae", "\xc3\xa9", "\xf0\x9f\xa7\xb5", "@", "\\"};
        for (auto left = storage.ss_family == AF_UNIX ? below(20) : 0; left > 0; --left) {
            const std::string_view piece = pieces[below(pieces.size())];
            std::memcpy(bytes + 2 + below(100), piece.data(), piece.size());
        }
        const auto length = static_cast<socklen_t>(
            storage.ss_family == AF_UNIX ? 2 + below(sizeof storage - 1) : sizeof storage);
        const auto value = from_storage(storage, length);
        CHECK(value.family() != address_family::unspecified);
        check_laws(value);
        if (value.family() == address_family::ipv4 || value.family() == address_family::ipv6)
            CHECK(endpoint{value.address(), value.port()} == value);
        else if (!value.path().empty() && !value.path().starts_with('@') &&
                 value.path().size() < 108)
            CHECK(endpoint::unix_path(value.path()) == value);
        else if (value.is_abstract())
            CHECK(endpoint::unix_path(value.path()) == value);
    }
}

TEST_CASE("hostile text is parsed or refused, never more") {
    const auto seed = std::random_device{}();
    INFO("seed: " << seed);
    std::mt19937 random{seed};
    const auto below = [&](std::size_t limit) {
        return std::uniform_int_distribution<std::size_t>{0, limit - 1}(random);
    };
    const std::vector<std::string> seeds{
        "127.0.0.1:80",  "255.255.255.255:65535", "[::1]:80",      "[fe80::1%lo]:80",
        "[fe80::1%2]:0", "[1:2:3:4:5:6:7:8]:9",   "unix:/run/x",   "unix:@abstract",
        "unix:",         "[::ffff:1.2.3.4]:1",    "unix:/\\x41\\", "unspecified",
    };
    const std::string alphabet = "0123456789abcdefgx.:[]%@\\/unix \n"s + '\0' + '\xff' + '\x7f';
    constexpr int rounds = creel::test::under_tsan ? 2'000 : 20'000;
    std::map<bool, int> outcomes;
    const auto try_one = [&](const std::string& text) {
        // A copy without a terminator, exactly as long as the text: ASan sees a read past the end.
        const std::vector<char> exact(text.begin(), text.end());
        const std::string_view view{exact.data(), exact.size()};
        bool parsed = false;
        try {
            const auto value = endpoint::parse(view);
            parsed = true;
            if (endpoint::parse(value.to_string()) != value || through_sockaddr(value) != value)
                FAIL("not a round trip: " << value);
        } catch (const std::invalid_argument&) {
        }
        try {
            const endpoint value{view, static_cast<int>(below(65536))};
            if (endpoint::parse(value.to_string()) != value)
                FAIL("not a round trip: " << value);
        } catch (const std::invalid_argument&) {
        }
        try {
            const auto value = endpoint::unix_path(view);
            if (value.path() != view || endpoint::parse(value.to_string()) != value)
                FAIL("not a round trip: " << value);
        } catch (const std::invalid_argument&) {
        }
        ++outcomes[parsed];
    };
    for (int round = 0; round < rounds; ++round) {
        std::string text = seeds[below(seeds.size())];
        for (auto edits = below(4); edits > 0; --edits) {
            const auto at = below(text.size() + 1);
            const char c = alphabet[below(alphabet.size())];
            switch (below(4)) {
            case 0:
                text.insert(at, 1, c);
                break;
            case 1:
                text.erase(at, below(3));
                break;
            case 2:
                text.insert(at, text.substr(0, below(text.size() + 1)));
                break;
            default:
                if (at < text.size())
                    text[at] = c;
            }
        }
        try_one(text);
    }
    for (int round = 0; round < rounds; ++round) {
        std::string text(below(130), '\0');
        for (auto& c : text)
            c = alphabet[below(alphabet.size())];
        try_one(below(2) == 0 ? text : "unix:" + text);
    }
    // Both cases have occurred, so the loop has tested both.
    CHECK(outcomes[true] > rounds / 20);
    CHECK(outcomes[false] > rounds / 20);
}
