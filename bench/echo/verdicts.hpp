#pragma once

#include "report.hpp"

#include <iosfwd>

namespace creel::bench::echo {

// Creel against what the echo family asks of it, one line per comparison of medians: with the raw
// io_uring variant of least CPU, at most_connections with the slower one, and with raw epoll.
void print_verdicts(std::ostream& out, const family_results& results);

} // namespace creel::bench::echo
