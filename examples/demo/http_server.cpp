#include "http_server.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/sync/semaphore.hpp>

#include <chrono>
#include <cstddef>
#include <exception>
#include <iostream>
#include <optional>
#include <system_error>
#include <utility>

namespace demo {

namespace {

constexpr std::ptrdiff_t max_connections = 4096; // the others wait in the listener's backlog

// Accepting fails when the process is out of descriptors, or when a peer gave up while it waited.
// Neither is a reason to stop; out of descriptors it must not spin either.
std::optional<creel::io::tcp_stream> try_accept(creel::io::tcp_listener& listener) {
    try {
        return listener.accept();
    } catch (const std::system_error& error) {
        std::cerr << "demo: " << error.what() << '\n';
    }
    creel::this_fiber::sleep_for(std::chrono::milliseconds{20});
    return {};
}

} // namespace

void serve_connections(creel::io::tcp_listener& listener, const http_handler& handler,
                       server_counters& counters) {
    creel::sync::semaphore permits{max_connections};
    auto count_broken = [&](const std::exception_ptr&, const creel::task_info&) {
        ++counters.broken_connections;
    };
    creel::with_nursery({.on_error = creel::report(count_broken)}, [&](creel::nursery& n) {
        for (;;) {
            auto permit = permits.hold();
            auto peer = try_accept(listener);
            if (!peer)
                continue;
            ++counters.connections;
            n.spawn({.name = "connection"},
                    [&, permit = std::move(permit), peer = std::move(*peer)]() mutable {
                        ++counters.open_connections;
                        struct leave {
                            server_counters& counters;
                            ~leave() { --counters.open_connections; }
                        } on_leave{counters};
                        serve_http(std::move(peer), handler, counters.replies);
                    });
        }
    });
}

} // namespace demo
