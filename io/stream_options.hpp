// What a socket can be told about its connection, by the names that POSIX and tcp(7) give it.
//
//     auto peer = io::tcp_stream::connect(where, {.receive_buffer_bytes = 1 << 20});
//     peer.set_keep_alive({.idle = 30s, .interval = 10s, .count = 3});
//     io::tcp_listener listener{where, {.accepted = {.no_delay = false}}};
//
// A stream that is connected, accepted or adopted has TCP_NODELAY on. Accepted streams inherit what
// their listener was told, which costs no system call for each.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <creel/fibers/time.hpp>

#include <cstddef>
#include <optional>

namespace creel::io {

// SO_KEEPALIVE and its times, of TCP only: a peer from which nothing has come for `idle` is asked
// whether it is there, and again after each `interval`; when `count` questions in a row were not
// answered, the connection has failed (std::errc::timed_out). Without it an idle connection does
// not notice that its peer's machine, or the way to it, is gone. The kernel counts whole seconds,
// up to 32,767: fractions are rounded up, and more counts as that.
struct keep_alive_options {
    bool on = true;
    // 0 leaves what is set: of a new socket the system's 2 h, 75 s and 9.
    saturating_duration idle{};
    saturating_duration interval{};
    int count = 0; // at most 127
};

// What a stream has from its beginning.
struct stream_options {
    // TCP_NODELAY: small pieces are sent at once, and do not wait until the last one has been
    // acknowledged. Other streams never wait; there it means nothing.
    bool no_delay = true;
    std::optional<keep_alive_options> keep_alive{}; // TCP only: others throw
    // SO_RCVBUF and SO_SNDBUF; 0 leaves the size to the kernel, which adapts it to the connection
    // and is seldom bettered. A TCP window above 64 KiB needs a large buffer from the beginning.
    // See tcp_stream::set_receive_buffer_bytes.
    std::size_t receive_buffer_bytes = 0;
    std::size_t send_buffer_bytes = 0;
};

} // namespace creel::io
