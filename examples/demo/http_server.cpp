#include "http_server.hpp"

#include <creel/io/serve.hpp>

#include <cstddef>
#include <exception>
#include <iostream>
#include <system_error>
#include <utility>

namespace demo {

namespace {

constexpr std::size_t max_connections = 4096; // the others wait in the listener's backlog

} // namespace

void serve_connections(creel::io::tcp_listener& listener, const http_handler& handler,
                       server_counters& counters) {
    auto note = [&](const std::exception_ptr& error, const creel::task_info& who) {
        if (who.name != "accept") {
            ++counters.broken_connections;
            return;
        }
        try { // without a free descriptor, serve goes on when a connection ends
            std::rethrow_exception(error);
        } catch (const std::exception& reason) {
            std::cerr << "demo: " << reason.what() << '\n';
        }
    };
    creel::io::serve({.max_connections = max_connections, .on_error = creel::report(note)},
                     listener, [&](creel::io::tcp_stream peer) {
                         ++counters.connections;
                         ++counters.open_connections;
                         struct leave {
                             server_counters& counters;
                             ~leave() { --counters.open_connections; }
                         } on_leave{counters};
                         serve_http(std::move(peer), handler, counters.replies);
                     });
}

} // namespace demo
