// A countdown that many callers wait for, once: "all workers are ready". Like std::latch, but for
// fibers and threads alike, and cancellable.
//
//     sync::latch ready{3};
//     for (auto& w : workers) n.spawn([&] { w.prepare(); ready.count_down(); w.serve(); });
//     ready.wait();
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <cstddef>
#include <source_location>

namespace creel::sync {

struct latch_statistics {
    std::ptrdiff_t count = 0; // arrivals that are still to come
    std::size_t waiting = 0;
};

class latch {
public:
    // A negative count is a bug, and is caught.
    explicit latch(std::ptrdiff_t expected,
                   std::source_location made_at = std::source_location::current());
    latch(const latch&) = delete;
    latch& operator=(const latch&) = delete;

    // Subtracts `by` from the count. At zero all waiters go on, and from then on no call waits.
    // Subtracting more than is left is a bug, and is caught. A waiter that goes on may destroy the
    // latch.
    // Parks: never. Threads: any. Cost: the primitive's lock, and a wake for each waiter.
    void count_down(std::ptrdiff_t by = 1) noexcept;

    // Parks: until the count is zero. Cancel: yes. Threads: any. Throws: cancelled.
    void wait();

    // count_down(by), then wait().
    // Parks: as wait(). Cancel: yes, and the caller has not arrived then: the count goes up by `by`
    // again. Threads: any. Throws: cancelled.
    void arrive_and_wait(std::ptrdiff_t by = 1);

    // True once the count is zero. Parks: never. Threads: any.
    [[nodiscard]] bool try_wait() const noexcept;

    // Threads: any.
    [[nodiscard]] latch_statistics statistics() const noexcept;

private:
    struct arrival;
    static void left(list_waiter& who, wait_list& from, wake_batch& to_wake) noexcept;
    static const wait_kind arrival_kind;

    void subtract(std::ptrdiff_t by, wake_batch& to_wake) noexcept; // with the lock held

    mutable wait_lock lock_;
    std::ptrdiff_t count_; // guarded by lock_, as is the list
    wait_list waiting_{lock_};
};

} // namespace creel::sync
