// echo: sends back what it receives.
#include "asio.hpp"

#include <array>
#include <cstddef>

using namespace same_job;

namespace {

awaitable<> echo(tcp_stream peer) {
    std::array<std::byte, echo_bytes> buffer;
    for (;;) {
        const auto [ended, count] = co_await peer.async_read_some(asio::buffer(buffer), nothrow);
        if (ended)
            co_return;
        const auto [broken, sent] =
            co_await asio::async_write(peer, asio::buffer(buffer, count), nothrow);
        if (broken)
            co_return;
    }
}

} // namespace

int main() {
    asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE}; // one thread: no locks
    auto listener = listen(context);
    asio::co_spawn(context, accept_all(listener, echo), asio::detached);
    context.run();
}
