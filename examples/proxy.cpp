// proxy PORT HOST PORT: accepts on the first port, and forwards each connection both ways to HOST
// and the second port. Port 0 picks a free one. SIGINT or SIGTERM ends it; nothing is left then.
#include <creel/creel.hpp>

#include <array>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <span>

namespace io = creel::io;
using namespace std::chrono_literals;

namespace {

// One way. An end is forwarded as an end, a broken connection as a reset, which is not an end.
void pump(io::tcp_stream& from, io::tcp_stream& to) {
    try {
        std::array<std::byte, 16 * 1024> buffer;
        while (std::size_t n = from.recv(buffer))
            to.send_all(std::span{buffer}.first(n));
        to.shutdown_send();
    } catch (...) {
        to.set_linger(0s);
        throw;
    }
}

// Ends when both ways have ended. The first error cancels the other way.
void carry(io::tcp_stream& client, const io::endpoint& to) {
    auto server = io::tcp_stream::connect(to);
    creel::with_nursery([&](creel::nursery& ways) {
        ways.spawn([&] { pump(client, server); });
        pump(server, client);
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
        io::run({.on_signal = io::throw_interrupted}, [&] {
            io::tcp_listener listener{io::endpoint{"127.0.0.1", std::atoi(argv[1])}};
            std::cout << "proxy listens on " << listener.local_endpoint() << std::endl;
            io::serve(listener, [&](io::tcp_stream& client) { carry(client, to); });
        });
    } catch (const io::interrupted&) {
        io::ring_statistics s = io::statistics();
        std::cout << "left: " << s.operations_in_flight << " operations, " << s.late_descriptors
                  << " connections, " << s.buffers_out << " buffers\n";
    } catch (const std::exception& error) {
        std::cerr << "proxy: " << error.what() << '\n';
        return 1;
    }
}
