// A mutex of the whole process, such that a forked child finds it free and what it guards whole,
// though another thread might have held it: fork() waits until nobody does. Nobody may hold two of
// them, or fork while holding one.
#pragma once

#include <mutex>

namespace creel::detail {

// One for each such mutex, beside it: a static object.
class fork_guard {
public:
    explicit fork_guard(std::mutex& guarded) noexcept;
    fork_guard(const fork_guard&) = delete;
    fork_guard& operator=(const fork_guard&) = delete;
};

} // namespace creel::detail
