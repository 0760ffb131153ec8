// Accepts connections, for both kinds of server in this demo.
#pragma once

#include "http_connection.hpp"

#include <creel/io/endpoint.hpp>
#include <creel/io/tcp_listener.hpp>

#include <cstdint>

namespace demo {

struct server_counters {
    std::uint64_t connections = 0;        // accepted so far
    std::uint64_t broken_connections = 0; // ended by an error, mostly because the peer vanished
    std::uint64_t open_connections = 0;   // now
    reply_counters replies{};
};

// Serves each connection in a fiber of its own until it is cancelled; then it waits for the
// requests in flight. No peer can end it or make it hold more than a fixed number of connections.
// Parks: yes. Cancel: yes. Throws: cancelled.
void serve_connections(creel::io::tcp_listener& listener, const http_handler& handler,
                       server_counters& counters);

} // namespace demo
