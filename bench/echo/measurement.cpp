#include "measurement.hpp"

#include "../child.hpp"
#include "../system_call.hpp"

#include <chrono>
#include <cstdint>
#include <stdexcept>

#include <unistd.h>

namespace creel::bench::echo {

using namespace std::chrono_literals;

load_result measure(const server& candidate, const load& wanted) {
    raise_descriptor_limit();
    const child server_process{0, [&](int pipe) { candidate.run(pipe); }};
    std::uint16_t port = 0;
    server_process.read_exact(&port, sizeof port, 5000);
    // It is declared after the server and so is killed first. That resets its connections, and the
    // server is killed before it can report them.
    const child client_process{1, [&](int pipe) {
                                   const auto seen = drive(wanted, port, server_process.pid());
                                   if (write(pipe, &seen, sizeof seen) != sizeof seen)
                                       throw std::runtime_error("cannot report");
                                   pause();
                               }};
    load_result result{};
    const auto limit = wanted.warm_up + wanted.window + 15s;
    client_process.read_exact(
        &result, sizeof result,
        static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(limit).count()));
    return result;
}

} // namespace creel::bench::echo
