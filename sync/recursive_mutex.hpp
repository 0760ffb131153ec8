// A mutex that its owner may lock again; it is free when it was unlocked as often.
//
// For code that calls itself back. Prefer a mutex and a function that is called with it held: this
// one hides who protects what, and a condition_variable lets go of one level only.
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

    // Parks: until it is handed over, unless the caller holds it. Cancel: no. Threads: any.
    void lock();

    // The same. Cancel: yes, its level is not held then. Threads: any. Throws: cancelled.
    void lock_cancellable();

    // Parks: never. Threads: any.
    [[nodiscard]] bool try_lock() noexcept;

    // By its owner; anybody else's unlock is a bug, and is caught.
    // Parks: never. Threads: any. Cost: two spinlocks.
    void unlock() noexcept;

    using mutex::owned;
    using mutex::statistics;

private:
    std::size_t depth_ = 0; // the owner's
};

} // namespace creel::sync
