// creel's echo server, written as a user of creel would write it: a fiber per connection, with its
// 16 KiB buffer on its stack.

#include "creel_server.hpp"

#include "server.hpp"

#include "../system_call.hpp"

#include <creel/creel.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace creel::bench::echo {
namespace {

// All servers of this family set TCP_NODELAY; accepted sockets inherit it. raw_listen() says why.
void set_no_delay(int fd) {
    const int yes = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0)
        fail(errno, "TCP_NODELAY");
}

void serve_connections(int port_pipe) {
    serve_by_creel(port_pipe, {});
}

const server_registration here{"creel", false, serve_connections};

} // namespace

void serve_by_creel(int port_pipe, const io::run_options& options) {
    io::run(options, [&] {
        io::tcp_listener listener{io::endpoint{"127.0.0.1", 0}};
        set_no_delay(listener.native_handle());
        report_port(port_pipe, static_cast<std::uint16_t>(listener.local_endpoint().port()));
        creel::with_nursery({.on_error = creel::report()}, [&](creel::nursery& connections) {
            for (;;)
                connections.spawn([peer = listener.accept()]() mutable {
                    std::array<std::byte, most_bytes> buffer;
                    while (auto n = peer.recv(buffer))
                        peer.send_all(std::span{buffer}.first(n));
                });
        });
    });
}

} // namespace creel::bench::echo
