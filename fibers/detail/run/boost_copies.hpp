// Boost.Fiber keeps its scheduler in a thread_local. So a process that has loaded Boost.Fiber twice
// (creel's from the archive, and libboost_fiber.so for some library) has two schedulers on each
// thread. Ours does not know the fibers of the other, and a wait of theirs blocks the thread. No
// other sign shows that.
#pragma once

#include <string>

namespace creel::detail {

// The loaded object that defines a Boost.Fiber other than the one that creel calls; empty if there
// is none. A copy with hidden symbols cannot be seen. Cost: 2 us with a handful of objects loaded.
[[nodiscard]] std::string other_boost_fiber();

// Names that object on stderr, with the remedy, once in a process. Looks only if an object has been
// loaded since the last time.
// Threads: any. Cost: a mutex and a look if no object has been loaded.
void report_other_boost_fiber() noexcept;

} // namespace creel::detail
