// proxy PORT HOST PORT: accepts on the first port, and carries each connection on to the address
// behind it, both ways, until both sides have sent all they will. Port 0 picks a free one. Ends on
// SIGINT or SIGTERM, and tells what is left then: nothing.
#include <creel/creel.hpp>

#include <array>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <span>

namespace io = creel::io;

namespace {

// One way. That a side has sent all it will is carried over too, and the other way goes on.
void pump(io::tcp_stream& from, io::tcp_stream& to) {
    std::array<std::byte, 16 * 1024> buffer;
    while (std::size_t n = from.recv(buffer))
        to.send_all(std::span{buffer}.first(n));
    to.shutdown_send();
}

// Ends when both ways have, or with the first error: it cancels the other way.
void carry(io::tcp_stream& client, const io::endpoint& to) {
    auto server = io::tcp_stream::connect(to);
    creel::with_nursery([&](creel::nursery& ways) {
        ways.spawn([&] { pump(client, server); });
        pump(server, client);
    });
}

void serve(int port, const io::endpoint& to) {
    io::tcp_listener listener{io::endpoint{"127.0.0.1", port}};
    std::cout << "proxy listens on " << listener.local_endpoint() << std::endl;
    creel::with_nursery({.on_error = creel::report()}, [&](creel::nursery& connections) {
        for (;;)
            connections.spawn([&, client = listener.accept()]() mutable { carry(client, to); });
    });
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        std::cerr << "usage: proxy PORT HOST PORT\n";
        return 2;
    }
    try {
        io::endpoint to{argv[2], std::atoi(argv[3])};
        io::run({.on_signal = io::throw_interrupted}, [&] { serve(std::atoi(argv[1]), to); });
    } catch (const io::interrupted&) {
        io::ring_statistics ring = io::statistics();
        std::cout << "left: " << ring.operations_in_flight << " operations, "
                  << ring.late_descriptors << " connections, " << ring.buffers_out << " buffers\n";
    } catch (const std::exception& error) {
        std::cerr << "proxy: " << error.what() << '\n';
        return 1;
    }
}
