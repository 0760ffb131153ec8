// Boost.Fiber keeps its scheduler in a thread_local, so a process that has loaded it twice (creel's
// from the archive, and libboost_fiber.so for some library) has two on each thread. Ours does not
// know of the other's fibers, and a wait of theirs blocks the thread. Nothing else tells.
#pragma once

#include <string>

namespace creel::detail {

// The loaded object that defines another Boost.Fiber than the one creel calls; empty if there is
// none. A copy whose symbols its library hides cannot be seen. Cost: 2 us with
// a handful of objects loaded.
[[nodiscard]] std::string other_boost_fiber();

// Names it on stderr, with the remedy; once in a process, and looking only where an object has been
// loaded since the last time. Threads: any. Cost: a mutex and a look where none has.
void report_other_boost_fiber() noexcept;

} // namespace creel::detail
