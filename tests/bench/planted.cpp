// Families with faults, for the test of the benchmarks.
#include "harness.hpp"

#include "echo/server.hpp"

#include <array>
#include <stdexcept>

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

namespace bench = creel::bench;

namespace {

const bench::registration planted{[] {
    bench::family family;
    family.name = "planted";
    family.figures = {{"first", "ns"}, {"second", "ns"}};
    family.cases = {"one", "other"};
    family.rounds = family.quick_rounds = 3;
    family.candidates.push_back({"sound", true, [](std::size_t, const bench::effort&) {
                                     return bench::values{2, 3};
                                 }});
    family.candidates.push_back(
        {"fails_once",
         false,
         [left = 1](std::size_t, const bench::effort&) mutable -> bench::values {
             if (left-- > 0)
                 throw std::runtime_error("planted");
             return {4, 6};
         },
         {},
         [](std::size_t case_index) { return case_index == 1; }});
    family.candidates.push_back(
        {"fails", false, [](std::size_t, const bench::effort&) -> bench::values {
             throw std::runtime_error("planted too");
         }});
    return family;
}};

// An echo server for one connection at a time. Now and then its echo differs in one bit.
void serve_wrong(int port_pipe) {
    const int listener = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(listener, generic, size) != 0 || listen(listener, 16) != 0 ||
        getsockname(listener, generic, &size) != 0)
        _exit(1);
    bench::echo::report_port(port_pipe, ntohs(address.sin_port));
    for (;;) {
        const int peer = accept(listener, nullptr, nullptr);
        std::array<char, 64> bytes{};
        for (unsigned turn = 0;; ++turn) {
            const auto count = recv(peer, bytes.data(), bytes.size(), 0);
            if (count <= 0)
                break;
            bytes[0] = static_cast<char>(bytes[0] ^ (turn % 64 == 63));
            if (send(peer, bytes.data(), static_cast<std::size_t>(count), 0) != count)
                break;
        }
        close(peer);
    }
}

const bench::echo::server_registration wrong{"wrong", true, serve_wrong};

} // namespace
