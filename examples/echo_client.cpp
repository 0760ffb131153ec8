// echo_client HOST PORT TEXT: sends the text to an echo server and prints the reply.
#include <creel/creel.hpp>

#include <chrono>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <span>
#include <string>

using namespace std::chrono_literals;
namespace io = creel::io;

namespace {

std::string echoed(const io::endpoint& server, const std::string& text) {
    auto stream = io::tcp_stream::connect(server);
    std::string reply(text.size(), '\0');
    // Another fiber sends while this one receives. Otherwise a text that is larger than the buffers
    // on the way would stop both sides.
    creel::with_nursery([&](creel::nursery& n) {
        n.spawn({.name = "sender"}, [&] {
            stream.send_all(std::as_bytes(std::span{text}));
            stream.shutdown_send();
        });
        stream.recv_exact(std::as_writable_bytes(std::span{reply}));
    });
    return reply;
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 4) {
        std::cerr << "usage: echo_client HOST PORT TEXT\n";
        return 2;
    }
    try {
        io::endpoint server{argv[1], std::atoi(argv[2])};
        std::string reply = io::run(
            [&] { return creel::fail_after(10s, [&] { return echoed(server, argv[3]); }); });
        std::cout << reply << '\n';
        return reply == argv[3] ? 0 : 1;
    } catch (const std::exception& error) {
        std::cerr << "echo_client: " << error.what() << '\n';
        return 1;
    }
}
