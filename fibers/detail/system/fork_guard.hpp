// A mutex of the whole process that every forked child finds free, with the data it guards whole:
// fork() waits until no thread holds such a mutex. No thread may hold two of them, or fork while it
// holds one.
#pragma once

#include <mutex>

namespace creel::detail {

// A static object, one for each such mutex, declared beside it.
class fork_guard {
public:
    explicit fork_guard(std::mutex& guarded) noexcept;
    fork_guard(const fork_guard&) = delete;
    fork_guard& operator=(const fork_guard&) = delete;
};

} // namespace creel::detail
