#pragma once

// The client of the echo family: one thread, one message in flight per connection, on io_uring
// too, because a client on epoll is slower than the servers and would cap them all.

#include <chrono>
#include <cstdint>

#include <sys/types.h>

namespace creel::bench::echo {

struct load {
    unsigned connections;
    unsigned bytes;
    std::chrono::nanoseconds warm_up;
    std::chrono::nanoseconds window;
};

// What was seen within the measured window. Plain data: it travels through a pipe.
struct load_result {
    std::uint64_t requests;
    double seconds;
    double server_cpu_seconds;
    double p50; // ns from handing a request to the kernel to seeing its whole reply
    double p99;
    double p999;
};

// Opens the connections to 127.0.0.1:`port`, warms up until every connection has had several
// replies, then measures. Every reply's length is checked; its content during the warm-up, and of
// one in sixteen afterwards. Throws: std::runtime_error on a wrong reply, a lost connection or a
// server that stalls; std::system_error.
load_result drive(const load& wanted, std::uint16_t port, pid_t server);

} // namespace creel::bench::echo
