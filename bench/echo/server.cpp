#include "server.hpp"

#include <algorithm>
#include <tuple>
#include <utility>

#include <unistd.h>

namespace creel::bench::echo {
namespace {

std::vector<server>& registered() {
    static std::vector<server> all;
    return all;
}

} // namespace

std::string case_of(unsigned connections, unsigned bytes) {
    return "connections:" + std::to_string(connections) + "/bytes:" + std::to_string(bytes);
}

std::vector<server> servers() {
    auto all = registered();
    std::sort(all.begin(), all.end(), [](const server& a, const server& b) {
        return std::tie(a.control, a.name) < std::tie(b.control, b.name);
    });
    return all;
}

server_registration::server_registration(std::string name, bool control, serve run) {
    registered().push_back({std::move(name), control, run});
}

void report_port(int port_pipe, std::uint16_t port) noexcept {
    if (write(port_pipe, &port, sizeof port) != sizeof port)
        _exit(1);
    close(port_pipe);
}

} // namespace creel::bench::echo
