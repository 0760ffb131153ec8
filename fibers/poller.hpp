// The outside world as a scheduler sees it: a clock, and a place where operations complete.
//
// io::detail::ring implements it over io_uring, tests/support/manual_poller.hpp over a virtual
// clock. An implementation makes fibers ready (by wake()) and never runs user code. KJ's EventPort
// is the model for this seam.
#pragma once

#include <creel/fibers/time.hpp>

#include <cstdint>

namespace creel {

// What a poller has done since it was made.
struct poller_work {
    std::uint64_t completions = 0;
    std::uint64_t system_calls = 0;
};

class poller {
public:
    poller(const poller&) = delete;
    poller& operator=(const poller&) = delete;

    // The clock, read afresh. Threads: the scheduler's own.
    virtual time_point now() noexcept = 0;

    // The same to within 5 ms, and never ahead of now(): for checkpoints, which ask often.
    // Threads: the scheduler's own.
    virtual time_point coarse_now() noexcept { return now(); }

    // Submits the operations that are not submitted yet, and delivers those that have completed;
    // never blocks. Called once in a round of the ready queue, usually at least 64 switches apart
    // while fibers are ready, on the stack of any fiber that parks. So it must be cheap when there
    // is nothing to do, and frugal with stack. Never re-entered. Threads: the scheduler's own.
    virtual void poll() noexcept = 0;

    // Blocks until something was delivered, wake() was called, or the deadline has passed
    // (time_point::max(): none). May return early for no reason. Threads: the scheduler's own.
    virtual void wait_until(time_point deadline) noexcept = 0;

    // Makes the current wait_until() return or, if there is none, the next. The wake is latched, so
    // a wake before the wait is not lost. Threads: any, even while the owner runs.
    virtual void wake() noexcept = 0;

    // False if a wait would end by wake() or at its deadline only, because no operation is under
    // way. If no fiber is ready then, and nothing else can make one ready, the run is a deadlock.
    // Threads: the scheduler's own.
    [[nodiscard]] virtual bool may_deliver() const noexcept { return true; }

    // For the trace of a run. Threads: the scheduler's own.
    [[nodiscard]] virtual poller_work work_done() const noexcept { return {}; }

protected:
    poller() = default;
    ~poller() = default;
};

} // namespace creel
