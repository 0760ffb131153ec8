// A contender waits for a thing that one or a few callers can have at a time: a mutex, a permit.
// Among the fibers of one thread the thing is handed over, first come, first served; that costs a
// switch that would be made anyway. A hand-over to another thread would make each lock a context
// switch: no party could have the thing from the hand-over until that thread has woken. So the
// first contender in line, if it is on another thread, is only told that it may try (it is
// `called`), and a quicker party may have the thing meanwhile. A contender that has tried in vain
// and has waited for a millisecond is handed the thing. These are the normal and the starvation
// mode of Go's sync.Mutex (Go 1.9, 2017).
//
// The states of a contender, and the function that makes each transition:
//
//   in line -- 1 an unlock: is_handed_over() -------> has it   `has_it` is written before the wake
//   in line -- 2 an unlock: not is_handed_over() ---> called   off the line, and woken
//   called --- 3 try_when_called() succeeds --------> has it
//   called --- 4 try_when_called() fails -----------> in line  at the head
//   in line -- 5 a cancel --------------------------> (gone)   if its kind is cancellable
//
// An unlock is mutex::pass_on(), semaphore::serve() or shared_mutex::admit(); the latter two also
// run when a contender leaves the line. wait_for_turn() waits in line.
#pragma once

#include <creel/fibers/this_fiber.hpp>
#include <creel/fibers/time.hpp>
#include <creel/fibers/wait_list.hpp>

#include <chrono>

namespace creel::sync::detail {

// For assertions: a contender is called, but in no list.
inline constexpr const char* destroyed_too_early = "destroyed while somebody waits on it";

struct contender : list_waiter {
    // `began`: when it began to wait, even if this is not its first try.
    contender(const wait_kind& kind, time_point began) noexcept : list_waiter(kind), since(began) {}

    // With the lock held: true if the thing is handed over to it, false if it is called.
    [[nodiscard]] bool is_handed_over() const noexcept { return is_here() || is_due(now()); }

    // Where the two threads have clocks of their own (virtual ones), `since` may seem to lie in the
    // future.
    [[nodiscard]] bool is_due(time_point at) const noexcept {
        return at - since >= barging_limit || at < since;
    }

    const time_point since;
    bool has_it = false; // it was handed over; written before the wake

private:
    // During this time others may have the thing before a contender of another thread.
    static constexpr std::chrono::milliseconds barging_limit{1};
};

// The contender of this thread that stands close behind `first`, which is on another thread;
// `first` itself if there is none, or if it is due.
[[nodiscard]] contender* next_behind(contender& first) noexcept;

// The contender in line whose turn is next; null if there is none. That is the first contender. But
// while the first is on another thread and not due yet, it is a contender of this thread that
// stands close behind the first. So a thread with fibers in line goes on with them, and does not
// wake the other thread for each lock.
[[nodiscard]] inline contender* next_in(wait_list& line) noexcept {
    auto* const first = static_cast<contender*>(line.front());
    return first == nullptr || first->is_here() ? first : next_behind(*first);
}

// For a contender that was called: tries, with the lock held, to have the thing, and else goes back
// to the head of the line. No unlock can overlook it in between, because the lock is held.
template <typename Make, typename Try>
[[gnu::noinline]] void try_when_called(wait_list& line, time_point began, Make& make,
                                       Try& try_now) {
    for (;;) {
        line.guard().lock();
        if (try_now()) {
            line.guard().unlock();
            return;
        }
        auto me = make(began);
        line.push_front(me);
        line.guard().unlock();
        me.wait();
        if (me.has_it)
            return;
    }
}

// Waits at the end of the line until the contender `make(began)` has the thing. When the contender
// is called, `try_now` takes the thing for it. Called with the lock held; returns without the lock.
// `at_first` is called once, in line, without the lock. Throws: cancelled, if the contender's kind
// says so.
template <typename Make, typename AtFirst, typename Try>
[[gnu::always_inline]] inline void wait_for_turn(wait_list& line, Make make, AtFirst at_first,
                                                 Try try_now) {
    const time_point began = recent_time();
    {
        auto me = make(began);
        line.push_back(me);
        line.guard().unlock();
        at_first();
        me.wait();
        if (me.has_it) [[likely]]
            return;
    }
    try_when_called(line, began, make, try_now);
}

} // namespace creel::sync::detail
