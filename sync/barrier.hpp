// A meeting point: each caller that arrives waits until all have arrived. Then all go on, and the
// next phase begins. Like std::barrier, but for fibers and threads alike, and cancellable.
//
//     sync::barrier step{workers};
//     for (;;) { compute(mine); step.arrive_and_wait(); exchange(mine); step.arrive_and_wait(); }
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>

namespace creel::sync {

struct barrier_statistics {
    std::ptrdiff_t expected = 0; // in this phase
    std::ptrdiff_t arrived = 0;  // in this phase
    std::size_t waiting = 0;
    std::uint64_t phases = 0; // completed
};

class barrier {
public:
    // The phase in which a caller has arrived.
    class arrival_token {
        friend class barrier;
        explicit arrival_token(std::uint64_t phase) noexcept : phase_(phase) {}
        std::uint64_t phase_;
    };

    // `completion` is called at the end of each phase, by the last caller to arrive, before any
    // caller goes on. It must not throw, so it may wait only under shield(). An expected number of
    // zero or less is a bug, and is caught.
    explicit barrier(std::ptrdiff_t expected, std::function<void()> completion = {},
                     std::source_location made_at = std::source_location::current());
    barrier(const barrier&) = delete;
    barrier& operator=(const barrier&) = delete;

    // Arrives and waits for the others.
    // Parks: until all have arrived, unless the caller is the last. Cancel: yes; the caller has not
    // arrived then, and the others still wait. Threads: any. Throws: cancelled.
    void arrive_and_wait();

    // Arrives without waiting; wait() with the token waits later.
    // Parks: never, unless the completion does. Threads: any.
    [[nodiscard]] arrival_token arrive() { return arrive(false); }

    // Waits for the end of that phase, which may be over.
    // Parks: until the phase is over. Cancel: yes; the arrival still counts. Threads: any.
    // Throws: cancelled.
    void wait(arrival_token arrived);

    // Arrives for the last time: from the next phase on, one arrival less is expected.
    // Parks: as arrive(). Threads: any.
    void arrive_and_drop() { static_cast<void>(arrive(true)); }

    // Threads: any.
    [[nodiscard]] barrier_statistics statistics() const noexcept;

private:
    struct member;
    static void left(list_waiter& who, wait_list& from, wake_batch& to_wake) noexcept;
    static const wait_kind member_kind;

    [[nodiscard]] bool count_in() noexcept; // with the lock held; true: the caller is the last
    void complete(wake_batch& to_wake) noexcept;
    arrival_token arrive(bool for_the_last_time);

    mutable wait_lock lock_;
    std::ptrdiff_t expected_; // guarded by lock_, as is all below
    std::ptrdiff_t missing_;
    std::ptrdiff_t dropped_ = 0; // arrivals of this phase that the next one does not expect
    std::uint64_t phase_ = 0;
    wait_list waiting_{lock_};
    const std::function<void()> completion_;
};

} // namespace creel::sync
