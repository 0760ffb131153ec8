#pragma once

// The client of the accept family: one thread that connects to 127.0.0.1 and resets what the server
// has closed, so that no port is left in TIME_WAIT.

#include <atomic>
#include <chrono>
#include <cstdint>

#include <sys/types.h>

namespace creel::bench::accepting {

inline constexpr unsigned most_open = 1024; // connections at a time; a backlog has room for them

enum class pattern : bool {
    bursts, // the server is stopped while 1,024 connect, and then takes them out of its backlog
    stream, // one connects after the other
};

struct load {
    pattern how;
    std::chrono::nanoseconds window;
};

// Plain data: it travels through a pipe.
struct load_result {
    std::uint64_t accepted;
    double seconds; // of bursts, those in which the server was at work
    double server_cpu_seconds;
};

// `finished` is the server's count. Of one in sixteen connections it is checked that the server has
// closed it. Throws: std::runtime_error on one that was not closed and on a server that stalls;
// std::system_error.
load_result drive(const load& wanted, std::uint16_t port, pid_t server,
                  const std::atomic<std::uint64_t>& finished);

} // namespace creel::bench::accepting
