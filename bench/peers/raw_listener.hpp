#pragma once

// The listening socket of all hand-written servers, and how they end after an error.

#include <cstdint>

namespace creel::bench::peers {

struct raw_listener {
    int descriptor;
    std::uint16_t port;
};

// Returns a non-blocking socket on an ephemeral port of 127.0.0.1. It has TCP_NODELAY, which each
// accepted socket inherits: without it, when a reply is sent in two parts, the second one waits 40
// ms for a delayed ACK.
raw_listener raw_listen();

// Writes one line to stderr and ends the process. `error` is an errno value.
[[noreturn]] void raw_fail(const char* what, int error);

} // namespace creel::bench::peers
