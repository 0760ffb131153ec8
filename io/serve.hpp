// A server's loop: accepts connections and runs a handler for each, in a fiber of its own.
//
//     io::tcp_listener listener{io::endpoint{"127.0.0.1", 8080}};
//     io::serve({.max_connections = 10'000}, listener, [](io::tcp_stream& peer) {
//         std::array<std::byte, 16384> buffer;
//         while (auto n = creel::fail_after(30s, [&] { return peer.recv(buffer); }))
//             peer.send_all(std::span{buffer}.first(n));
//     });
//
// No peer ends the loop: an exception of a handler is reported, and ends that connection only. A
// lack of descriptors or memory does not end it either. It ends by a cancel from outside, or when
// the listener is closed.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <creel/fibers/error_policy.hpp>
#include <creel/io/tcp_listener.hpp>
#include <creel/io/tcp_stream.hpp>

#include <cstddef>
#include <functional>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>

namespace creel::io {

struct serve_options {
    // How many connections may have a handler at one time. At the limit serve() does not accept,
    // and peers wait in the kernel's backlog. 0: half of the descriptors that the process may still
    // open when serve() begins (`ulimit -n`), so that each handler can open another one. Several
    // calls of serve() in one process share the descriptors, so give each call a number.
    std::size_t max_connections = 0;
    // Gets the exceptions of handlers, each after its connection was closed, and the errors of
    // accepting: see serve(). A report() without a handler writes a line to stderr. The policy must
    // be a report(): with another policy a single peer would end the server.
    error_policy on_error = report();
    std::string_view name = "connection"; // of the handlers' fibers; must outlive the call
    std::size_t stack_bytes = 0;          // of each; 0: the scheduler's default
};

namespace detail {

// The handler without its type. The object outlives the call of serve().
struct connection_handler {
    void* object;
    void (*handle)(void* object, tcp_stream& peer);
};

void serve(const serve_options& options, tcp_listener& listener, connection_handler handler,
           const std::source_location& where);

} // namespace detail

// Accepts until it is cancelled or the listener is closed. For each connection it calls
// handler(tcp_stream&), or handler(tcp_stream), in a fiber of its own. The connection closes when
// the handler returns. All connections share the handler object; its calls interleave at waits, on
// one thread. A stream that a handler has moved elsewhere no longer counts toward max_connections
// after the handler has returned. serve() returns only after every handler.
//
// When a fiber of the thread calls listener.close(), serve() stops accepting, lets the handlers
// finish, and returns. Another thread uses nursery.remote().spawn([&] { listener.close(); }) for
// that. A cancel with a grace (shutdown_grace) does not stop serve() before the grace has passed;
// a fiber beside it can close the listener at once:
//
//     while (!stop.cancelled()) // stop = root.token()
//         creel::this_fiber::sleep_for(50ms);
//     listener.close();
//
// Accepting may fail for a lack of descriptors or memory, or for a similar reason. Then the peers
// stay in the backlog. serve() tries again when one of its connections ends, or after a pause: 5 ms
// at first, twice as long each further time, at most 1 s. on_error gets the error once, as an error
// of a fiber named "accept", and gets a further one only after accepting has gone well for a
// second. The kernel takes the descriptor before a connection comes, so an idle server can also
// fail this way.
//
// Parks: until the listener is closed and every handler has returned. Cancel: yes; the handlers are
// cancelled and awaited. Threads: the thread of the ring that accepts on the listener.
// Throws: cancelled; std::system_error if the listener is closed already, and if its descriptor is
// not a listening socket, and then the handlers are cancelled too; std::invalid_argument for
// stack_bytes above 1 GiB and for an on_error that is not a report().
template <typename Handler>
void serve(const serve_options& options, tcp_listener& listener, Handler&& handler,
           std::source_location where = std::source_location::current()) {
    using function = std::remove_reference_t<Handler>;
    static_assert(std::is_invocable_v<function&, tcp_stream&> ||
                      std::is_invocable_v<function&, tcp_stream>,
                  "serve takes a function of a tcp_stream& or a tcp_stream");
    auto handle = [&handler](tcp_stream& peer) {
        if constexpr (std::is_invocable_v<function&, tcp_stream&>)
            static_cast<void>(std::invoke(handler, peer));
        else
            static_cast<void>(std::invoke(handler, std::move(peer)));
    };
    const auto with_type = [](void* object, tcp_stream& peer) {
        (*static_cast<decltype(handle)*>(object))(peer);
    };
    detail::serve(options, listener, {&handle, with_type}, where);
}

template <typename Handler>
void serve(tcp_listener& listener, Handler&& handler,
           std::source_location where = std::source_location::current()) {
    serve(serve_options{}, listener, std::forward<Handler>(handler), where);
}

} // namespace creel::io
