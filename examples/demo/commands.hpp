// The processes of the demo. Each is this program with another first argument.
#pragma once

#include "page.hpp"

#include <chrono>
#include <cstddef>
#include <optional>
#include <vector>

namespace demo {

struct backend_options {
    std::size_t index = 0;
    int port = 0;
    std::optional<std::chrono::milliseconds> latency{}; // instead of the usual mixture
};

struct server_options {
    int port = 8080;
    bool port_given = false; // if not, a free port replaces a busy one
    std::vector<int> backend_ports{};
    std::chrono::milliseconds deadline = page_deadline;
};

struct load_options {
    int port = 8080;
    unsigned seconds = 5;
    unsigned connections = 64;
    std::chrono::milliseconds deadline = page_deadline; // of the server's pages
};

struct demo_options {
    bool once = false;
    unsigned seconds = 5;
    unsigned connections = 64;
    std::optional<int> port{};
    std::chrono::milliseconds deadline = page_deadline;
};

// Each function runs its process and returns the exit status. The two servers print "listening on
// 127.0.0.1:PORT" when they are ready. On SIGINT or SIGTERM they drain and end.
int run_backend(const backend_options& options);
int run_server(const server_options& options);
int run_load(const load_options& options);
int run_demo(const demo_options& options);

} // namespace demo
