#pragma once

// The servers of the echo family: each is a function that listens on 127.0.0.1, reports its port
// and then serves until its process is killed. A server's own file registers it.

#include <cstdint>
#include <string>
#include <vector>

namespace creel::bench::echo {

inline constexpr unsigned most_connections = 2000;
inline constexpr unsigned most_bytes = 16384; // the largest message, and each server's buffer

// "connections:64/bytes:16384"
std::string case_of(unsigned connections, unsigned bytes);

// A function of type `serve` never returns. It runs in a process of its own that was forked
// before any thread existed, on one core.
using serve = void (*)(int port_pipe);

struct server {
    std::string name;
    bool control;
    serve run;
};

// In order: creel's candidates first, then the controls, each by name (the linker's order of
// static objects means nothing).
std::vector<server> servers();

class server_registration {
public:
    server_registration(std::string name, bool control, serve run);
};

// Tells the waiting benchmark that connections are now accepted on `port`; ends the process when
// nobody is there to read.
void report_port(int port_pipe, std::uint16_t port) noexcept;

} // namespace creel::bench::echo
