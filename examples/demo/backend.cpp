// A backend: a slow server for one kind of part. "GET /part?id=7" returns its text after a while.
#include "commands.hpp"
#include "http_server.hpp"
#include "page.hpp"

#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>

#include <iostream>

namespace io = creel::io;

namespace demo {

int run_backend(const backend_options& options) {
    auto answer = [&](const http_request& request) -> http_reply {
        auto id = id_in(request.target, "/part");
        if (!id)
            return {.status = 404, .body = "no such part\n"};
        creel::this_fiber::sleep_for(options.latency ? *options.latency
                                                     : thinking_time(options.index, *id));
        return {.body = part_text(options.index, *id)};
    };
    try {
        io::run({.on_signal = io::throw_interrupted}, [&] {
            io::tcp_listener listener{io::endpoint::loopback_v4(options.port)};
            std::cout << "listening on " << listener.local_endpoint() << std::endl;
            server_counters counters;
            serve_connections(listener, answer, counters);
        });
    } catch (const io::interrupted&) {
    }
    return 0;
}

} // namespace demo
