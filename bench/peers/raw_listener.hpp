#pragma once

// What all hand-written servers share before they differ: the listening socket, and giving up.

#include <cstdint>

namespace creel::bench::peers {

struct raw_listener {
    int descriptor;
    std::uint16_t port;
};

// Non-blocking, on an ephemeral port of 127.0.0.1. TCP_NODELAY is set on it and inherited by every
// accepted socket: without it the second part of a reply sent in two waits 40 ms for a delayed ACK.
raw_listener raw_listen();

// Writes one line to stderr and ends the process. `error` is an errno value.
[[noreturn]] void raw_fail(const char* what, int error);

} // namespace creel::bench::peers
