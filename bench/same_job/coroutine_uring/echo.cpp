// Echo in C++20 coroutines: one per connection.
#include "../coroutine/serve.hpp"
#include "../wire.hpp"

#include <array>
#include <cstddef>
#include <cstdio>
#include <span>

namespace {

using namespace same_job::coroutine;

task<> echo(stream peer) {
    std::array<std::byte, same_job::echo_bytes> buffer;
    while (const std::size_t n = co_await peer.recv(buffer))
        co_await peer.send_all(std::span{buffer}.first(n));
}

task<> listen_and_serve() {
    const listener connections;
    std::printf("%d\n", connections.port());
    std::fflush(stdout);
    co_await serve(connections, echo);
}

} // namespace

int main() {
    run(listen_and_serve());
}
