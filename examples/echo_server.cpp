// echo_server PORT: sends back all bytes that it gets, with one fiber per connection. Port 0 picks
// a free port. SIGINT and SIGTERM end it: they cancel everything inside io::run.
#include <creel/creel.hpp>

#include <array>
#include <charconv>
#include <cstddef>
#include <exception>
#include <iostream>
#include <optional>
#include <span>
#include <string_view>

namespace io = creel::io;

namespace {

std::optional<int> parse_port(std::string_view text) {
    int port = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc{} || end != text.data() + text.size())
        return {};
    return port;
}

void echo(io::tcp_stream& peer) {
    std::array<std::byte, 16 * 1024> buffer; // on the fiber's own stack
    while (std::size_t n = peer.recv(buffer))
        peer.send_all(std::span{buffer}.first(n));
}

void serve(int port) {
    io::tcp_listener listener{io::endpoint{"127.0.0.1", port}};
    std::cout << "echo server listens on " << listener.local_endpoint() << std::endl;
    // When a connection breaks, one line goes to stderr and the other connections go on.
    io::serve(listener, echo);
}

} // namespace

int main(int argc, char** argv) {
    std::optional<int> port = argc == 2 ? parse_port(argv[1]) : std::nullopt;
    if (!port) {
        std::cerr << "usage: echo_server PORT\n";
        return 2;
    }
    try {
        io::run([&] { serve(*port); });
    } catch (const std::exception& error) {
        std::cerr << "echo_server: " << error.what() << '\n';
        return 1;
    }
}
