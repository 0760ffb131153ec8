#pragma once

#include "report.hpp"

#include <iosfwd>

namespace creel::bench::echo {

// Prints whether creel reaches the limits that the echo family sets, one line per comparison: with
// the raw io_uring variant that uses the least CPU, at most_connections also with the slower one,
// and with raw epoll. Then whether the coroutines of same_job have a good loop: their CPU time
// against the same raw variant.
void print_verdicts(std::ostream& out, const family_results& results);

} // namespace creel::bench::echo
