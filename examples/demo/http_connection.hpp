// The server's side of an HTTP/1.1 connection, in direct style: read a request, call the handler,
// write the reply, and again.
//
//     demo::reply_counters replies;
//     demo::serve_http(std::move(peer), [](const demo::http_request& request) {
//         return demo::http_reply{.body = "you asked for " + request.target + "\n"};
//     }, replies);
#pragma once

#include <creel/io/tcp_stream.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

namespace demo {

struct http_request {
    std::string method;
    std::string target;
    std::string body;
    bool keep_alive = false;
};

struct http_reply {
    int status = 200;
    std::string content_type = "text/plain; charset=utf-8";
    std::string body{};
    std::string extra_headers{}; // whole lines, each with its \r\n
    bool close = false;          // end the connection after this reply
};

// How much memory a peer may take, and how long it may take for each step.
struct http_limits {
    std::uint32_t header_bytes = 8 * 1024;   // more gives 431
    std::uint64_t body_bytes = 64 * 1024;    // more gives 413
    std::chrono::milliseconds idle{60'000};  // between requests; then the connection ends
    std::chrono::milliseconds read{10'000};  // for a whole request from its begin; then 408
    std::chrono::milliseconds answer{5'000}; // for the handler; then 503
    std::chrono::milliseconds send{5'000};   // for a whole reply
};

// Counts replies of handlers that the kernel has taken completely.
struct reply_counters {
    std::uint64_t sent = 0;
    std::uint64_t closing = 0; // replies with http_reply::close
};

using http_handler = std::function<http_reply(const http_request&)>;

// Serves one connection until the peer ends it, asks for its end, breaks the protocol or takes too
// long. A request that was read is answered even if the caller is cancelled during it: so a server
// drains. A handler that throws gives 500. A handler that takes too long gives 503 and the end of
// the connection. Parks: yes. Cancel: between requests. Throws: std::system_error when the
// connection breaks, timed_out when the peer did not take a reply within limits.send.
void serve_http(creel::io::tcp_stream stream, const http_handler& handler, reply_counters& replies,
                const http_limits& limits = {});

} // namespace demo
