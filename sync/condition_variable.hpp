// Waits until a condition holds on data that a lock protects. Like std::condition_variable_any,
// with any lock of this library or of std, but for fibers and threads alike, and cancellable.
//
//     std::unique_lock hold{mutex};
//     changed.wait(hold, [&] { return !jobs.empty(); });
//
//     { const std::lock_guard hold{mutex}; jobs.push_back(job); }     // the other side
//     changed.notify_one();
//
// For a timeout, put the wait into a scope: fail_after(1s, [&] { changed.wait(hold, ...); }).
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <cstddef>
#include <exception>
#include <source_location>

namespace creel::sync {

struct condition_variable_statistics {
    std::size_t waiting = 0;
};

class condition_variable {
public:
    explicit condition_variable(
        std::source_location made_at = std::source_location::current()) noexcept
        : lock_("condition_variable", made_at) {}
    condition_variable(const condition_variable&) = delete;
    condition_variable& operator=(const condition_variable&) = delete;

    // Releases the lock, waits for a notification, and takes the lock again, even after a cancel. A
    // notification that comes in the same instant as a cancel is not lost: either wait() returns,
    // or the notification goes to the next waiter. wait() never returns without a notification, but
    // the condition may have changed between the notification and the moment the lock is held.
    // Parks: until notified, then for the lock. Cancel: yes, in the first of these waits; the lock
    // is held when it throws. Threads: any. Throws: cancelled.
    template <typename Lock>
    void wait(Lock& lock) {
        check_cancel_only(); // not check_cancel, which may yield: the lock is held
        wait_once(lock);
    }

    // Returns once the predicate is true; it is called with the lock held. Even when it is true at
    // once, the lock is released now and then, to let other fibers run.
    // Parks, Cancel, Threads: as above. Throws: cancelled; the error of the predicate.
    template <typename Lock, typename Predicate>
    void wait(Lock& lock, Predicate holds) {
        if (!check_cancel_in_place())
            yield_without(lock);
        while (!holds())
            wait_once(lock);
    }

    // Wakes the waiter that has waited longest, or all waiters. The caller may hold the lock or
    // not.
    // Parks: never. Threads: any. Cost: the primitive's lock, and a wake for each waiter.
    void notify_one() noexcept;
    void notify_all() noexcept;

    // Threads: any.
    [[nodiscard]] condition_variable_statistics statistics() const noexcept;

private:
    template <typename Lock>
    void wait_once(Lock& lock) {
        check_owned(lock);
        list_waiter me{plain_wait};
        // Linked before the unlock: a party that changes the data after it finds this waiter.
        enqueue(me);
        lock.unlock();
        const wake_reason reason = park(me);
        lock.lock();
        if (reason == wake_reason::cancelled)
            throw_cancelled();
    }
    template <typename Lock>
    void yield_without(Lock& lock) {
        check_owned(lock);
        lock.unlock();
        const std::exception_ptr error = yield();
        lock.lock();
        if (error != nullptr)
            std::rethrow_exception(error);
    }
    template <typename Lock>
    void check_owned(const Lock& lock) const noexcept {
        if constexpr (requires { lock.owns_lock(); })
            if (!lock.owns_lock())
                not_owned();
    }
    static std::exception_ptr yield() noexcept;
    void enqueue(list_waiter& me) noexcept;
    [[noreturn]] void not_owned() const noexcept;

    mutable wait_lock lock_;
    wait_list waiting_{lock_}; // guarded by lock_
};

} // namespace creel::sync
