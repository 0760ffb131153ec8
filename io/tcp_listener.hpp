// A listening socket: TCP, or a Unix stream socket.
//
//     io::tcp_listener listener{io::endpoint{"127.0.0.1", 8080}};
//     for (;;)
//         connections.spawn([peer = listener.accept()]() mutable { serve(peer); });
//
// <creel/io/serve.hpp> has this loop for a server, with a limit and with a policy for errors.
// Many fibers may accept; connections go to them first come, first served. A connection that no
// fiber waits for stays in the kernel's backlog, and costs no descriptor.
#pragma once

#include <creel/io/endpoint.hpp>
#include <creel/io/stream_options.hpp>
#include <creel/io/tcp_stream.hpp>

#include <memory>
#include <utility>

namespace creel::io {

namespace detail {
class acceptor;
struct listener_access;
} // namespace detail

struct listen_options {
    int backlog = 4096;        // the kernel cuts it to net.core.somaxconn
    bool reuse_address = true; // SO_REUSEADDR: bind although old connections linger
    bool reuse_port = false;   // SO_REUSEPORT: a listener per thread, the kernel spreads the load
    bool v6_only = false;      // an IPv6 listener does not take IPv4
    stream_options accepted{}; // of the streams that it accepts
};

class tcp_listener {
public:
    // Binds and listens. The path of a Unix endpoint must be free; creel does not remove it later.
    // Parks: no. Threads: any. Throws: std::system_error that names the endpoint.
    explicit tcp_listener(const endpoint& where, listen_options options = {});

    // Closes without waiting, as close() does. Threads: any.
    ~tcp_listener();
    tcp_listener(tcp_listener&& other) noexcept
        : record_(std::exchange(other.record_, nullptr)),
          former_address_(std::move(other.former_address_)) {}
    tcp_listener& operator=(tcp_listener&& other) noexcept;

    // The next connection. Connections that failed before they were accepted are skipped. Without
    // descriptors or memory it throws, and the connection stays in the backlog: free a descriptor,
    // or wait, before you accept again (io::serve does).
    // Parks: until there is a connection. Cancel: yes, and then no connection was taken.
    // Threads: those inside io::run, one at a time. Throws: cancelled, std::system_error. Cost: an
    // entry; no system call of its own.
    [[nodiscard]] tcp_stream accept();

    // The address that it is bound to; for an endpoint with port 0, with the port that was chosen.
    // Parks: no. Throws: std::system_error.
    [[nodiscard]] endpoint local_endpoint() const;

    // False once it was closed or moved from. Threads: any.
    [[nodiscard]] bool is_open() const noexcept { return record_ != nullptr; }

    // Closes. Fibers in accept() get bad_file_descriptor, and so does each further call. The kernel
    // resets the connections in the backlog.
    // Parks: while a fiber is in accept(). Cancel: no. Threads: as accept.
    // Throws: std::system_error.
    void close();

    // The listener keeps the descriptor.
    // Parks: only if the listener was last used on another thread, until that thread lets go of it.
    // Cancel: only then. Threads: any before the first use and after its ring's end; else those
    // inside io::run. Throws: cancelled, std::system_error.
    [[nodiscard]] int native_handle() const;

private:
    friend struct detail::listener_access;
    [[nodiscard]] detail::acceptor& open(const char* call) const;

    detail::acceptor* record_;                         // null: closed or moved from
    std::unique_ptr<const endpoint> former_address_{}; // of a closed one, for messages
};

} // namespace creel::io
