// A server's loop: accepts connections and runs a handler for each, in a fiber of its own.
//
//     io::tcp_listener listener{io::endpoint{"127.0.0.1", 8080}};
//     io::serve({.max_connections = 10'000}, listener, [](io::tcp_stream& peer) {
//         std::array<std::byte, 16384> buffer;
//         while (auto n = creel::fail_after(30s, [&] { return peer.recv(buffer); }))
//             peer.send_all(std::span{buffer}.first(n));
//     });
//
// No peer ends it: what a handler throws is reported, and ends that connection only. Nor does a
// lack of descriptors or memory. It ends by a cancel from outside, or when the listener is closed.
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
    // How many connections' handlers run at a time. At the limit it does not accept: peers wait in
    // the kernel's backlog. 0: half of the descriptors that the process may still open when serve()
    // begins (`ulimit -n`), so that each handler can open another one. Several calls of serve() in
    // one process share the descriptors, so give each its number.
    std::size_t max_connections = 0;
    // Gets what a handler throws, when its connection is closed, and what accepting fails with: see
    // serve(). Without a handler of its own report() writes a line to stderr. Only a report(): with
    // another policy one peer would end the server.
    error_policy on_error = report();
    std::string_view name = "connection"; // of the handlers' fibers; must outlive the call
    std::size_t stack_bytes = 0;          // of each; 0: the scheduler's default
};

namespace detail {

// The handler without its type, which outlives the call.
struct connection_handler {
    void* object;
    void (*handle)(void* object, tcp_stream& peer);
};

void serve(const serve_options& options, tcp_listener& listener, connection_handler handler,
           const std::source_location& where);

} // namespace detail

// Accepts until it is cancelled or the listener is closed, and calls handler(tcp_stream&), or
// handler(tcp_stream), in a fiber for each connection, which closes when the handler returns. All
// connections share the handler object; its calls interleave at waits, on one thread. The call
// waits for every handler. A stream that a handler has moved elsewhere no longer counts toward
// max_connections once the handler has returned.
//
// When the listener is closed, by listener.close() in any fiber of the thread, it stops accepting,
// lets the handlers finish, and returns. Another thread does that by
// nursery.remote().spawn([&] { listener.close(); }). A cancel with a grace (shutdown_grace) does
// not stop it before the grace has passed; a fiber beside it can close the listener then:
//
//     while (!stop.cancelled()) // stop = root.token()
//         creel::this_fiber::sleep_for(50ms);
//     listener.close();
//
// When accepting fails because there are no descriptors, no memory or the like, it waits until one
// of its connections ends, or 5 ms, twice as long each further time, at most 1 s; then it tries
// again. Those connections stay in the backlog. on_error gets that error once, as one of a fiber
// named "accept", and again only after accepting has gone well for a second. The kernel takes the
// descriptor before a connection comes, so that an idle server, too, can fail in this way.
//
// Parks: until the listener is closed and every handler has returned. Cancel: yes; the handlers are
// cancelled and awaited. Threads: that of the ring that accepts on the listener. Throws: cancelled;
// std::system_error if the listener is closed already, or if its descriptor is not a listening
// socket: then the handlers are cancelled, too; std::invalid_argument for stack_bytes above 1 GiB
// and for an on_error that is no report().
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
