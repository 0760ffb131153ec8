// A wait that one party alone can end: the wait for a lock ends when its holder unlocks it, the
// wait for a result when that task has ended. It is listed as long as this object lives, and the
// search for deadlocks goes through the list.
//
//     struct locker : creel::list_waiter {        // on the stack of the call that waits
//         ...
//         creel::held_wait listed{*this};
//     };
//
// The kind of the waiter says who that party is: waiter_kind::holder. Name a party only if nothing
// but that party, a cancel or the waiter's own timer can end the wait: from a cycle of such waits
// follows that the run is cancelled, or the process aborts.
#pragma once

#include <creel/fibers/waiter.hpp>

#include <cstddef>
#include <cstdint>

namespace creel {

class held_wait;

namespace detail {
// Those of one thread. As this_scheduler, it is read across switches.
struct held_waits {
    held_wait* newest = nullptr;
    std::size_t count = 0;
    std::uint64_t made = 0; // ever
};
extern constinit thread_local held_waits this_held_waits;
} // namespace detail

class held_wait {
public:
    // Threads: the waiter's, as is all else. Cost: some stores.
    explicit held_wait(const waiter& who) noexcept
        : who_(&who), next_(detail::this_held_waits.newest) {
        if (next_ != nullptr)
            next_->previous_ = this;
        detail::this_held_waits.newest = this;
        ++detail::this_held_waits.count;
        ++detail::this_held_waits.made;
    }
    ~held_wait() {
        (previous_ != nullptr ? previous_->next_ : detail::this_held_waits.newest) = next_;
        if (next_ != nullptr)
            next_->previous_ = previous_;
        --detail::this_held_waits.count;
    }
    held_wait(const held_wait&) = delete;
    held_wait& operator=(const held_wait&) = delete;

    [[nodiscard]] const waiter& who() const noexcept { return *who_; }
    // The one that was made before it; null for the oldest.
    [[nodiscard]] const held_wait* next() const noexcept { return next_; }

private:
    const waiter* who_;
    held_wait* next_;
    held_wait* previous_ = nullptr;
};

} // namespace creel
