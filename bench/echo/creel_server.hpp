#pragma once

// creel's echo server, for families that run it with options of their own.

#include <creel/io/run.hpp>

namespace creel::bench::echo {

// A `serve`, with options for its run.
void serve_by_creel(int port_pipe, const io::run_options& options);

} // namespace creel::bench::echo
