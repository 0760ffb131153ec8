// The server. A page has parts from three backends. The server asks all three at the same time, and
// waits for none longer than the deadline.
#include "commands.hpp"
#include "fetcher.hpp"
#include "http_server.hpp"
#include "page.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>
#include <creel/io/run.hpp>

#include <array>
#include <iostream>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace io = creel::io;

namespace demo {

namespace {

struct page_counters {
    std::uint64_t requests = 0;
    std::uint64_t in_flight = 0;
    std::uint64_t parts = 0;
    std::uint64_t late_parts = 0;
    std::uint64_t failed_parts = 0;
};

class frontend {
public:
    frontend(const server_options& options, creel::nursery& root, server_counters& connections)
        : deadline_(options.deadline),
          root_(root),
          connections_(connections),
          fetcher_(options.backend_ports) {}

    // Serves until it is cancelled, and then until the last request is answered.
    void serve(io::tcp_listener& listener) {
        creel::with_nursery([&](creel::nursery& n) {
            fetcher_.start(n);
            try {
                auto handler = [this](const http_request& request) { return answer(request); };
                serve_connections(listener, handler, connections_);
            } catch (...) {
                fetcher_.close(); // the last request is answered: the workers may end
                throw;
            }
        });
    }

private:
    http_reply answer(const http_request& request) {
        ++counters_.requests;
        ++counters_.in_flight;
        struct leave {
            page_counters& counters;
            ~leave() { --counters.in_flight; }
        } on_leave{counters_};
        http_reply reply = route(request);
        // The server drains: this reply is the last of the connection.
        reply.close = root_.scope().cancel_called();
        return reply;
    }

    http_reply route(const http_request& request) {
        std::string_view target = request.target;
        std::string_view path = target.substr(0, target.find('?'));
        bool reading = request.method == "GET" || request.method == "HEAD";
        if (path == "/echo")
            return request.method == "POST" || request.method == "PUT"
                       ? http_reply{.content_type = "application/octet-stream",
                                    .body = request.body}
                       : not_allowed("POST, PUT");
        if (path != "/" && path != "/page" && path != "/stats")
            return {.status = 404, .body = "There is nothing here. Try / or /stats\n"};
        if (!reading)
            return not_allowed("GET, HEAD");
        if (path == "/stats")
            return {.content_type = "application/json", .body = statistics()};
        if (path == "/")
            return {.body = page(counters_.requests)};
        if (auto id = id_in(target, "/page"))
            return {.body = page(*id)};
        return {.status = 400, .body = "/page wants ?id=NUMBER\n"};
    }

    static http_reply not_allowed(std::string_view allowed) {
        return {.status = 405,
                .body = "This takes " + std::string{allowed} + "\n",
                .extra_headers = "Allow: " + std::string{allowed} + "\r\n"};
    }

    std::string page(std::uint64_t id) {
        std::array<part, backends.size()> parts;
        auto deadline = creel::now() + deadline_;
        creel::with_nursery([&](creel::nursery& n) {
            for (std::size_t i = 0; i < parts.size(); ++i)
                n.spawn({.name = backends[i].name},
                        [&, i] { parts[i] = fetcher_.fetch(i, id, deadline); });
        });

        std::string text = "page " + std::to_string(id) + "\n";
        for (std::size_t i = 0; i < parts.size(); ++i) {
            ++counters_.parts;
            text.append(backends[i].name).append(": ");
            switch (parts[i].state) {
            case part_state::ok:
                text += parts[i].text;
                break;
            case part_state::late:
                ++counters_.late_parts;
                text += "timeout";
                break;
            case part_state::failed:
                ++counters_.failed_parts;
                text += "failed, " + parts[i].text;
                break;
            }
            text += '\n';
        }
        return text;
    }

    std::string statistics() {
        creel::scheduler_statistics fibers = creel::statistics();
        std::string json;
        auto add = [&](std::string_view name, std::uint64_t value) {
            json.append(json.empty() ? "{\n" : ",\n").append("  \"").append(name).append("\": ");
            json.append(std::to_string(value));
        };
        add("requests", counters_.requests);
        add("requests_in_flight", counters_.in_flight);
        add("parts", counters_.parts);
        add("timeouts", counters_.late_parts);
        add("failed_parts", counters_.failed_parts);
        add("jobs_queued", fetcher_.queued());
        add("connections", connections_.connections);
        add("open_connections", connections_.open_connections);
        add("broken_connections", connections_.broken_connections);
        add("fibers_lived", fibers.tasks_spawned);
        add("fibers_now", fibers.tasks_spawned - fibers.tasks_finished);
        add("fibers_peak", fibers.peak_tasks);
        add("stacks", fibers.fibers_alive);
        add("switches", fibers.switches);
        return json + "\n}\n";
    }

    std::chrono::milliseconds deadline_;
    creel::nursery& root_;
    server_counters& connections_;
    page_counters counters_{};
    fetcher fetcher_;
};

io::tcp_listener listen(const server_options& options) {
    try {
        return io::tcp_listener{io::endpoint::loopback_v4(options.port)};
    } catch (const std::system_error& error) {
        if (options.port_given || error.code() != std::errc::address_in_use)
            throw;
    }
    return io::tcp_listener{io::endpoint::loopback_v4(0)};
}

} // namespace

int run_server(const server_options& options) {
    server_counters connections;
    try {
        io::run({.on_signal = io::throw_interrupted}, [&](creel::nursery& root) {
            io::tcp_listener listener = listen(options);
            std::cout << "listening on " << listener.local_endpoint() << std::endl;
            frontend{options, root, connections}.serve(listener);
        });
    } catch (const io::interrupted&) {
        std::cout << "drained: " << with_commas(connections.replies.sent) << " requests answered, "
                  << connections.replies.closing << " of them after the signal" << std::endl;
        io::ring_statistics ring = io::statistics();
        std::cout << "left: " << ring.operations_in_flight << " operations, "
                  << ring.late_descriptors << " connections, " << ring.buffers_out << " buffers"
                  << std::endl;
    }
    return 0;
}

} // namespace demo
