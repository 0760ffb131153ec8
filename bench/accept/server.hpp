#pragma once

// The servers of the accept family. Each accepts on 127.0.0.1 and closes each connection at once.

#include <atomic>
#include <cstdint>

namespace creel::bench::accepting {

struct job {
    int port_pipe;                        // for echo::report_port
    unsigned accepts;                     // number of accepts that wait at the same time
    std::atomic<std::uint64_t>& finished; // connections accepted and closed
};

// Serves until its process is killed. The process runs nothing else, is pinned to one core and was
// forked before any thread existed.
using serve = void (*)(const job&);

void serve_with_creel(const job& what);     // a fiber for each accept
void serve_with_multishot(const job& what); // one multishot accept, it ignores `accepts`
void serve_with_single_accepts(
    const job& what); // `accepts` entries, each renewed when it completes

} // namespace creel::bench::accepting
