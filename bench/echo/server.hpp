#pragma once

// The servers of the echo family. Each is a function that listens on 127.0.0.1, reports its port
// and then serves until its process is killed. The source file of a server registers it.

#include <cstdint>
#include <string>
#include <vector>

namespace creel::bench::echo {

inline constexpr unsigned most_connections = 2000;
inline constexpr unsigned most_bytes = 16384; // the largest message, and each server's buffer

// "connections:64/bytes:16384"
std::string case_of(unsigned connections, unsigned bytes);

// A function of type `serve` never returns. Its process runs nothing else, is pinned to one core
// and was forked before any thread existed.
using serve = void (*)(int port_pipe);

struct server {
    std::string name;
    bool control;
    serve run;
};

// creel's candidates come first, then the controls, each sorted by name (the linker's order of
// static objects means nothing).
std::vector<server> servers();

class server_registration {
public:
    server_registration(std::string name, bool control, serve run);
};

// Tells the waiting benchmark that the server now accepts connections on `port`. Ends the process
// if the benchmark no longer reads the pipe.
void report_port(int port_pipe, std::uint16_t port) noexcept;

} // namespace creel::bench::echo
