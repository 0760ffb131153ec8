// How the caller of blocking() waits for its call, in the line and while f runs.
#pragma once

#include <creel/fibers/detail/blocking/blocking_pool.hpp>
#include <creel/fibers/detail/time/timer_queue.hpp>
#include <creel/fibers/waiter.hpp>

#include <string>

namespace creel::detail {

class scheduler;
struct caller_view;

// On the caller's stack. Threads: the caller's, except for the fields that the pool's mutex guards.
struct call_waiter : waiter {
    call_waiter(blocking_pool& p, blocking_call& c, caller_view& v, scheduler& h) noexcept;
    ~call_waiter(); // cancels `next_try`

    // Asks for a thread again after a pause, each pause twice as long as the last one. Called when
    // the system refuses a thread. Throws: std::bad_alloc.
    void try_later();

    static withdrawal withdraw(waiter& w, wake_reason) noexcept;
    static void describe(const waiter& w, std::string& text);
    static constexpr waiter_kind table{&withdraw, &describe};

    struct retry_timer : timer {
        retry_timer() noexcept;
        call_waiter* of = nullptr;
    };

    blocking_pool* pool;
    blocking_call* call; // not to be touched any more once `abandoned`
    caller_view* view;   // of the caller; a helper thread moves it out when it takes the call
    scheduler* home;
    retry_timer next_try;
    duration pause;
    int refusals = 0;

    // How the wait ended. Written under the pool's mutex, read by the caller once park() returns.
    int error = 0; // not 0: why no helper thread can be had
    bool abandoned = false;
    bool sent_back = false;
};

} // namespace creel::detail
