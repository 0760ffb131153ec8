#include "clean_run.hpp"

#include <creel/io/stream_options.hpp>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace io = creel::io;
using namespace creel::test;
using namespace std::chrono_literals;

namespace {

int option_of(const io::tcp_stream& stream, int level, int option) {
    int value = -1;
    socklen_t bytes = sizeof value;
    ::getsockopt(stream.native_handle(), level, option, &value, &bytes);
    return value;
}

int no_delay_of(const io::tcp_stream& stream) {
    return option_of(stream, IPPROTO_TCP, TCP_NODELAY);
}

// Of the two ends of a new TCP connection.
struct ends {
    io::tcp_stream client;
    io::tcp_stream server;
};

ends connected(const io::listen_options& listening, const io::stream_options& connecting) {
    io::tcp_listener listener{io::endpoint::loopback_v4(0), listening};
    auto client = io::tcp_stream::connect(listener.local_endpoint(), connecting);
    return {std::move(client), listener.accept()};
}

// A raw TCP connection's own end, and the peer.
std::pair<int, io::tcp_stream> raw_end() {
    auto pair = connected({}, {.no_delay = false});
    return {pair.client.release(), std::move(pair.server)};
}

} // namespace

TEST_CASE(
    "TCP_NODELAY is on for what is connected, accepted and adopted, unless it is not wanted") {
    clean_run([] {
        const auto usual = connected({}, {});
        CHECK(no_delay_of(usual.client) == 1);
        CHECK(no_delay_of(usual.server) == 1);
        const auto plain = connected({.accepted = {.no_delay = false}}, {.no_delay = false});
        CHECK(no_delay_of(plain.client) == 0);
        CHECK(no_delay_of(plain.server) == 0);
        auto [fd, peer] = raw_end();
        const auto adopted = io::tcp_stream::adopt(fd);
        CHECK(no_delay_of(adopted) == 1);
        auto [other, other_peer] = raw_end();
        const int on = 1;
        ::setsockopt(other, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        CHECK(no_delay_of(io::tcp_stream::adopt(other, {.no_delay = false})) == 0);
    });
}

TEST_CASE("set_no_delay sets TCP_NODELAY, which Unix streams have no need of") {
    clean_run([] {
        auto [a, b] = tcp_pair();
        a.set_no_delay(false);
        CHECK(no_delay_of(a) == 0);
        CHECK_FALSE(a.no_delay());
        a.set_no_delay(true);
        CHECK(no_delay_of(a) == 1);
        CHECK(a.no_delay());
        auto [c, d] = stream_pair();
        c.set_no_delay(false);
        CHECK(c.no_delay());
    });
}

TEST_CASE("keep-alive has its times in whole seconds, rounded up, and leaves what is 0") {
    clean_run([] {
        auto [a, b] = tcp_pair();
        const io::keep_alive_options before = a.keep_alive();
        CHECK_FALSE(before.on);
        CHECK(before.idle > 0s);
        a.set_keep_alive({.idle = 1500ms, .count = 3});
        CHECK(option_of(a, SOL_SOCKET, SO_KEEPALIVE) == 1);
        CHECK(option_of(a, IPPROTO_TCP, TCP_KEEPIDLE) == 2);
        CHECK(option_of(a, IPPROTO_TCP, TCP_KEEPCNT) == 3);
        CHECK(a.keep_alive().on);
        CHECK(a.keep_alive().idle == 2s);
        CHECK(a.keep_alive().interval == before.interval);
        CHECK(a.keep_alive().count == 3);
        a.set_keep_alive({.idle = std::chrono::hours::max(), .interval = 1ns});
        CHECK(a.keep_alive().idle == 32'767s);
        CHECK(a.keep_alive().interval == 1s);
        a.set_keep_alive({.on = false});
        CHECK_FALSE(a.keep_alive().on);
    });
}

TEST_CASE("a listener's keep-alive and buffers are those of what it accepts") {
    clean_run([] {
        const io::stream_options wanted{.keep_alive = io::keep_alive_options{.interval = 7s},
                                        .receive_buffer_bytes = 20'000,
                                        .send_buffer_bytes = 30'000};
        const auto pair = connected({.accepted = wanted}, wanted);
        for (const io::tcp_stream* stream : {&pair.client, &pair.server}) {
            CHECK(stream->keep_alive().on);
            CHECK(stream->keep_alive().interval == 7s);
            CHECK(stream->receive_buffer_bytes() == 40'000); // the kernel doubles it
            CHECK(stream->send_buffer_bytes() == 60'000);
        }
    });
}

TEST_CASE("buffers have the size they are given, as far as the kernel goes") {
    clean_run([] {
        auto [a, b] = stream_pair();
        a.set_receive_buffer_bytes(20'000);
        a.set_send_buffer_bytes(30'000);
        CHECK(a.receive_buffer_bytes() == 40'000);
        CHECK(a.send_buffer_bytes() == 60'000);
        a.set_send_buffer_bytes(std::size_t{1} << 40); // net.core.wmem_max
        CHECK(a.send_buffer_bytes() > 60'000);
    });
}

TEST_CASE("the user timeout and linger take any duration") {
    clean_run([] {
        auto [a, b] = tcp_pair();
        CHECK(a.user_timeout() == 0s);
        a.set_user_timeout(1'500us);
        CHECK(a.user_timeout() == 2ms);
        a.set_user_timeout(std::chrono::hours::max());
        CHECK(a.user_timeout() == std::chrono::milliseconds{std::numeric_limits<int>::max()});
        a.set_user_timeout(0s);
        CHECK(a.user_timeout() == 0s);

        CHECK(a.linger() == std::nullopt);
        a.set_linger(1ms);
        CHECK(a.linger() == 1s);
        a.set_linger(creel::duration::max());
        CHECK(a.linger() > std::chrono::hours{24 * 365});
        a.set_linger(std::nullopt);
        CHECK(a.linger() == std::nullopt);
        a.set_linger(0s);
        CHECK(a.linger() == 0s);
        a.close();
        CHECK(error_of([&b = b] { static_cast<void>(recv_text(b)); }).code() ==
              std::errc::connection_reset);
    });
}

TEST_CASE("an option that cannot be set is an error that names it and the peer") {
    clean_run([] {
        auto [a, b] = tcp_pair();
        auto [c, d] = stream_pair();
        struct attempt {
            std::function<void()> call;
            std::errc code;
            std::string text;
        };
        const std::string peer = " on the stream to " + a.remote_endpoint().to_string() + ": ";
        const std::string not_tcp =
            " on the stream to an unnamed Unix socket (peer of descriptor " +
            std::to_string(c.native_handle()) + "), which is not TCP: ";
        const std::vector<attempt> attempts{
            {[&a = a] { a.set_keep_alive({.idle = -1s}); }, std::errc::invalid_argument,
             "TCP_KEEPIDLE" + peer},
            {[&a = a] { a.set_keep_alive({.interval = -1s}); }, std::errc::invalid_argument,
             "TCP_KEEPINTVL" + peer},
            {[&a = a] { a.set_keep_alive({.count = 128}); }, std::errc::invalid_argument,
             "TCP_KEEPCNT" + peer},
            {[&a = a] { a.set_user_timeout(-1ms); }, std::errc::invalid_argument,
             "TCP_USER_TIMEOUT" + peer},
            {[&a = a] { a.set_linger(-1s); }, std::errc::invalid_argument, "SO_LINGER" + peer},
            {[&c = c] { c.set_keep_alive({}); }, std::errc::operation_not_supported,
             "SO_KEEPALIVE" + not_tcp},
            {[&c = c] { static_cast<void>(c.keep_alive()); }, std::errc::operation_not_supported,
             "SO_KEEPALIVE" + not_tcp},
            {[&c = c] { c.set_user_timeout(1s); }, std::errc::operation_not_supported,
             "TCP_USER_TIMEOUT" + not_tcp},
        };
        for (const attempt& failing : attempts) {
            const auto error = error_of([&] { failing.call(); });
            CHECK(error.code() == failing.code);
            CHECK_THAT(error.what(), Catch::StartsWith(failing.text));
        }
        CHECK_FALSE(a.keep_alive().on);
        const auto listen = [] {
            const io::tcp_listener never{io::endpoint::unix_path("@creel_stream_options"),
                                         {.accepted = {.keep_alive = io::keep_alive_options{}}}};
        };
        CHECK_THAT(error_of(listen).what(),
                   Catch::StartsWith("listen on unix:@creel_stream_options: SO_KEEPALIVE"));
    });
}
