// An echo server in C++20 coroutines, on the loop of bench/same_job.

#include "server.hpp"

#include "../same_job/coroutine/serve.hpp"

#include <array>
#include <cstddef>
#include <span>

namespace creel::bench::echo {
namespace {

namespace coroutine = ::same_job::coroutine;
using coroutine::stream;
using coroutine::task;

task<> echo(stream peer) {
    std::array<std::byte, most_bytes> buffer;
    while (const std::size_t n = co_await peer.recv(buffer))
        co_await peer.send_all(std::span{buffer}.first(n));
}

task<> listen_and_serve(int port_pipe) {
    const coroutine::listener connections;
    report_port(port_pipe, connections.port());
    co_await coroutine::serve(connections, echo);
}

const server_registration here{"coroutine_uring", true,
                               [](int port_pipe) { coroutine::run(listen_and_serve(port_pipe)); }};

} // namespace
} // namespace creel::bench::echo
