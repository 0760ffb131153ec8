// A mutex that its owner may lock again; it is free once it was unlocked as often as it was locked.
//
// For code that calls itself back. Prefer a mutex, and a function that is called with it held: a
// recursive mutex hides which code protects which data, and a condition_variable releases one level
// only.
#pragma once

#include <creel/sync/mutex.hpp>

#include <cstddef>
#include <source_location>

namespace creel::sync {

class recursive_mutex : mutex {
public:
    explicit recursive_mutex(
        std::source_location made_at = std::source_location::current()) noexcept
        : mutex("recursive_mutex", made_at) {}

    // Parks: until its turn comes, unless the caller holds it. Cancel: no. Threads: any.
    // Cost: the primitive's lock, twice.
    void lock();

    // Parks: as lock(). Cancel: yes, this level is not held then. Threads: any. Throws: cancelled.
    void lock_cancellable();

    // Parks: never. Threads: any.
    [[nodiscard]] bool try_lock() noexcept;

    // For the owner; an unlock by another party is a bug, and is caught.
    // Parks: never. Threads: any. Cost: the primitive's lock, twice.
    void unlock() noexcept;

    using mutex::owned;
    using mutex::statistics;

private:
    std::size_t depth_ = 0; // only the owner uses it
};

} // namespace creel::sync
