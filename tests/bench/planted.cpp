// Families with faults, for the test of the benchmarks.
#include "harness.hpp"
#include "report.hpp"

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

// Gives these values in turn; 0 stands for a failure.
auto in_turn(std::array<double, 3> values) {
    return [values, round = 0U](std::size_t, const bench::effort&) mutable -> bench::values {
        const double value = values.at(round++);
        if (value == 0)
            throw std::runtime_error("planted");
        return {value};
    };
}

void judge(std::ostream& out, const bench::family_results& all) {
    const auto& mine = all.results.at(0);
    const auto& base = all.results.at(1);
    print_verdict(out, all, mine, base, 0, 0.45);
    print_verdict(out, all, mine, base, 0, 0.5);
    print_verdict(out, all, all.results.at(2), all.results.at(3), 0, 1);
}

const bench::registration judged{[] {
    bench::family family;
    family.name = "judged";
    family.figures = {{"", "ns"}};
    family.cases = {""};
    family.rounds = 3;
    family.candidates.push_back({"mine", false, in_turn({3, 4, 50})});
    family.candidates.push_back({"base", true, in_turn({1, 10, 100})});
    family.candidates.push_back({"first_round", false, in_turn({1, 0, 0})});
    family.candidates.push_back({"later_rounds", true, in_turn({0, 1, 1})});
    family.conclude = judge;
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
