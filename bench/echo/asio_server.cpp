// An echo server in Asio's coroutines over epoll, as in bench/same_job.

#include "server.hpp"

#include "../same_job/asio_coroutine/asio.hpp"

#include <array>
#include <cstddef>

namespace creel::bench::echo {
namespace {

namespace style = ::same_job;

style::awaitable<> echo(style::tcp_stream peer) {
    std::array<std::byte, most_bytes> buffer;
    for (;;) {
        const auto [ended, count] =
            co_await peer.async_read_some(style::asio::buffer(buffer), style::nothrow);
        if (ended)
            co_return;
        const auto [broken, sent] = co_await style::asio::async_write(
            peer, style::asio::buffer(buffer, count), style::nothrow);
        if (broken)
            co_return;
    }
}

void serve_connections(int port_pipe) {
    style::asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE}; // one thread: no locks
    style::tcp_listener listener{context, {style::asio::ip::address_v4::loopback(), 0}};
    listener.set_option(style::tcp::no_delay{true});
    report_port(port_pipe, listener.local_endpoint().port());
    style::asio::co_spawn(context, style::accept_all(listener, echo), style::asio::detached);
    context.run();
}

const server_registration here{"asio_coroutine", true, serve_connections};

} // namespace
} // namespace creel::bench::echo
