// Holds a mutex of the whole process over each fork(), so that the child finds the mutex free and
// its data whole, although another thread of the parent may have held it.
//
//     constinit std::mutex registry_mutex;
//     const creel::fork_guard registry_in_forks{registry_mutex};
//
// fork() takes all such mutexes, in the reverse order of their registration, and waits for each
// until it is free. In the child all are released first; then the functions `in_child` are called,
// in the order of registration.
// No thread may hold two of them, unless it takes them in that order: first the mutex that was
// registered later. No thread may fork while it holds one.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <mutex>

namespace creel {

// Each such mutex has one of these beside it: an object of static storage. It is not removed again:
// a fork in an atexit function still needs it. So a library that is unloaded may have one only if
// it contains creel itself.
class fork_guard {
public:
    // `in_child` is called in the child, on its only thread. Null: nothing to do there. It must not
    // call creel: creel's own state may be that of the parent still.
    explicit fork_guard(std::mutex& guarded, void (*in_child)() noexcept = nullptr) noexcept;
    fork_guard(const fork_guard&) = delete;
    fork_guard& operator=(const fork_guard&) = delete;

private:
    struct handlers; // of pthread_atfork

    std::mutex* mutex_;
    void (*in_child_)() noexcept;
    const fork_guard* older_ = nullptr;
    mutable const fork_guard* newer_ = nullptr;
};

} // namespace creel
