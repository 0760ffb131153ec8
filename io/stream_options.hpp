// The options of a connection's socket, named as in POSIX and tcp(7).
//
//     auto peer = io::tcp_stream::connect(where, {.receive_buffer_bytes = 1 << 20});
//     peer.set_keep_alive({.idle = 30s, .interval = 10s, .count = 3});
//     io::tcp_listener listener{where, {.accepted = {.no_delay = false}}};
//
// A stream has TCP_NODELAY on, whether it was connected, accepted or adopted. An accepted stream
// inherits the options of its listener, which costs no system call for each stream.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <creel/fibers/time.hpp>

#include <cstddef>
#include <optional>

namespace creel::io {

// SO_KEEPALIVE and its times, for TCP only. When no data has come from the peer for `idle`, the
// kernel asks the peer for an answer, and asks again after each `interval`. When `count` questions
// in a row have no answer, the connection fails (std::errc::timed_out). Without keep-alive an idle
// connection does not notice that the peer's machine, or the route to it, has failed. The kernel
// counts whole seconds, up to 32,767: creel rounds fractions up, and cuts longer times to that.
struct keep_alive_options {
    bool on = true;
    // In each of these, 0 leaves the socket's value; a new socket has the system's 2 h, 75 s and 9.
    saturating_duration idle{};
    saturating_duration interval{};
    int count = 0; // at most 127
};

// The options that a stream has from its beginning.
struct stream_options {
    // TCP_NODELAY: the kernel sends a small piece at once, and does not wait until the peer has
    // acknowledged the piece before it. Streams that are not TCP never wait, and ignore this.
    bool no_delay = true;
    std::optional<keep_alive_options> keep_alive{}; // TCP only: other streams throw
    // SO_RCVBUF and SO_SNDBUF. 0 leaves the size to the kernel, which adapts it to the connection;
    // a fixed size is seldom better. A TCP window above 64 KiB needs a large buffer from the
    // beginning. See tcp_stream::set_receive_buffer_bytes.
    std::size_t receive_buffer_bytes = 0;
    std::size_t send_buffer_bytes = 0;
};

} // namespace creel::io
