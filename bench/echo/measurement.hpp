#pragma once

// One measurement of an echo server.

#include "load.hpp"
#include "server.hpp"

namespace creel::bench::echo {

// Runs server and client in processes of their own, each with one thread pinned to its own core.
// The calling process must have only one thread. Throws: std::runtime_error, as drive() and child.
load_result measure(const server& candidate, const load& wanted);

} // namespace creel::bench::echo
