#pragma once

// The client of the accept family: one thread that connects to 127.0.0.1. It resets each connection
// that the server has closed, so that no port stays in TIME_WAIT.

#include <atomic>
#include <chrono>
#include <cstdint>

#include <sys/types.h>

namespace creel::bench::accepting {

inline constexpr unsigned most_open = 1024; // connections at a time; they fit in a backlog

enum class pattern : bool {
    bursts, // the server is stopped while 1,024 clients connect, and then accepts from its backlog
    stream, // one client connects after the other
};

struct load {
    pattern how;
    std::chrono::nanoseconds window;
};

// Plain data, because it is sent through a pipe.
struct load_result {
    std::uint64_t accepted;
    double seconds; // for bursts, only the time in which the server worked
    double server_cpu_seconds;
};

// `finished` is the server's count of closed connections. Every sixteenth connection is checked:
// the server must have closed it. Throws: std::runtime_error if a connection is not closed or the
// server stalls; std::system_error.
load_result drive(const load& wanted, std::uint16_t port, pid_t server,
                  const std::atomic<std::uint64_t>& finished);

} // namespace creel::bench::accepting
