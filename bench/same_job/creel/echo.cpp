// The echo job in creel's fibers: a fiber per connection, with its buffer on its stack.

#include "../wire.hpp"

#include <creel/creel.hpp>

#include <array>
#include <cstddef>
#include <cstdio>
#include <exception>
#include <span>

namespace io = creel::io;

int main() {
    io::run([] {
        io::tcp_listener listener{io::endpoint{"127.0.0.1", 0}};
        std::printf("%d\n", listener.local_endpoint().port());
        std::fflush(stdout);
        const auto silent = creel::report([](std::exception_ptr, const creel::task_info&) {});
        io::serve({.on_error = silent}, listener, [](io::tcp_stream& peer) {
            std::array<std::byte, same_job::echo_bytes> buffer;
            while (auto n = peer.recv(buffer))
                peer.send_all(std::span{buffer}.first(n));
        });
    });
}
