#pragma once

// System calls of the benchmarks. Each throws std::system_error when it fails.

#include <cstdint>
#include <string>

#include <sys/types.h>
#include <time.h>

namespace creel::bench {

// Throws std::system_error. `error` is an errno value, `what` names the call.
[[noreturn]] void fail(int error, const std::string& what);

// Reads a clock of clock_gettime(2).
std::uint64_t nanoseconds(clockid_t clock);

// The clock of the CPU time that a process has used.
clockid_t cpu_clock_of(pid_t process);

// Raises the soft limit of descriptors to the hard one. Processes that are forked afterwards
// inherit it: a server or client with thousands of connections exceeds the usual 1,024.
void raise_descriptor_limit();

// Connects a TCP socket to 127.0.0.1. Its close resets the connection: thousands of connections a
// round must not fill the port range with TIME_WAIT.
int connect_to_loopback(std::uint16_t port);

} // namespace creel::bench
