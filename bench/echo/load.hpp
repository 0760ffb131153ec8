#pragma once

// The client of the echo family: one thread, one message in flight per connection. It uses
// io_uring, because a client on epoll is slower than the servers and would limit them all.

#include <chrono>
#include <cstdint>
#include <functional>

#include <sys/types.h>

namespace creel::bench::echo {

// Moments of a load, in this order. All connections are open in each of them.
enum class moment : unsigned char {
    connected, // nothing has been sent
    begins,    // the measured window
    ends,
    answered, // each message has its reply, and no further one is sent
};

struct load {
    unsigned connections;
    unsigned bytes;
    std::chrono::nanoseconds warm_up;
    std::chrono::nanoseconds window;
    std::function<void(moment)> at = {}; // is told of each moment; may be empty
};

// The figures of the measured window. Plain data, because it is sent through a pipe.
struct load_result {
    std::uint64_t requests;
    double seconds;
    double server_cpu_seconds;
    double p50; // ns from the hand-over of a request to the kernel until its whole reply is seen
    double p99;
    double p999;
};

// Opens the connections to 127.0.0.1:`port`, warms up until each connection has had several
// replies, then measures. It checks the length of each reply; and the content of each reply during
// the warm-up, and of every sixteenth reply afterwards. Throws: std::runtime_error if a reply is
// wrong, a connection is lost or the server stalls; std::system_error.
load_result drive(const load& wanted, std::uint16_t port, pid_t server);

} // namespace creel::bench::echo
