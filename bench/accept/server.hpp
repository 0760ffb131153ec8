#pragma once

// The servers of the accept family: each accepts on 127.0.0.1, and closes what it accepts at once.

#include <atomic>
#include <cstdint>

namespace creel::bench::accepting {

struct job {
    int port_pipe;                        // for echo::report_port
    unsigned accepts;                     // that wait at the same time
    std::atomic<std::uint64_t>& finished; // connections accepted and closed
};

// Serves until its process is killed. It runs in a process of its own that was forked before any
// thread existed, on one core.
using serve = void (*)(const job&);

void serve_with_creel(const job& what);          // a fiber for each accept
void serve_with_multishot(const job& what);      // one accept that goes on, whatever `accepts` says
void serve_with_single_accepts(const job& what); // as many entries, each made again as it ends

} // namespace creel::bench::accepting
