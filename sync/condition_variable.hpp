// Waits until a condition on data that a lock protects holds; as std::condition_variable_any, with
// any lock of this library (or of std), for fibers and threads, and cancellable.
//
//     std::unique_lock hold{mutex};
//     changed.wait(hold, [&] { return !jobs.empty(); });
//
//     { const std::lock_guard hold{mutex}; jobs.push_back(job); }     // the other side
//     changed.notify_one();
//
// For a timeout put it into a scope: fail_after(1s, [&] { changed.wait(hold, ...); }).
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

    // Lets go of the lock, waits for a notification, and takes the lock again, also when it is
    // cancelled. A notification that comes in the same instant as a cancel is not lost: it is
    // either returned, or goes to the next. Never wakes without reason, but what was true at the
    // notification may have changed by the time the lock is held.
    // Parks: until notified, then for the lock. Cancel: the first of the two; the lock is held
    // then. Threads: any. Throws: cancelled.
    template <typename Lock>
    void wait(Lock& lock) {
        throw_if_cancelled(); // not check_cancel, which may yield: the lock is held
        wait_once(lock);
    }

    // Returns once the predicate, which is called with the lock held, holds. Also where it holds at
    // once the lock is let go of now and then, to let others run.
    template <typename Lock, typename Predicate>
    void wait(Lock& lock, Predicate holds) {
        if (!check_cancel_in_place())
            yield_without(lock);
        while (!holds())
            wait_once(lock);
    }

    // One, the one who has waited longest, or all. With the lock held or not.
    // Parks: never. Threads: any. Cost: a spinlock, and a wake for each.
    void notify_one() noexcept;
    void notify_all() noexcept;

    // Threads: any.
    [[nodiscard]] condition_variable_statistics statistics() const noexcept;

private:
    template <typename Lock>
    void wait_once(Lock& lock) {
        check_owned(lock);
        list_waiter me{plain_wait};
        // Linked before the lock is let go: who changes the data after that will find us here.
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
