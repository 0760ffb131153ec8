// The loop of a scheduler: how a fiber waits, what runs next, and when the outside world is polled.
#include <creel/fibers/detail/run/scheduler.hpp>

#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/system/relax_core.hpp>
#include <creel/fibers/held_wait.hpp>

#include <algorithm>
#include <chrono>
#include <utility>

namespace creel::detail {

namespace {

// After this time without a poll a checkpoint polls. The coarse clock is up to 5 ms late, so a
// fiber that calls it between short slices sees its deadline within 10 ms.
constexpr duration longest_unpolled = std::chrono::milliseconds{5};

} // namespace

void scheduler::wake_arrived(waiter& w) noexcept {
    w.woken_ = true;
    parker& who = *w.owner_;
    if (who.waiting_on == &w) { // else it has not parked yet, and will see woken_
        who.waiting_on = nullptr;
        who.reason = wake_reason::signalled;
        auto& fiber = static_cast<fiber_record&>(who);
        if (recorder_) [[unlikely]] {
            make_ready_traced(fiber);
            return;
        }
        prefetch_registers(fiber);
        make_ready(fiber);
    }
}

// The last call of wake_arrived(), which so saves no registers for it.
[[gnu::noinline]] void scheduler::make_ready_traced(fiber_record& f) noexcept {
    recorder_->wakes(f, f.reason);
    make_ready(f);
}

void scheduler::interrupt(waiter& w, wake_reason why) noexcept {
    if (w.withdraw_requested_ || w.woken_)
        return;
    w.withdraw_requested_ = true;
    if (w.kind_->withdraw(w, why) == withdrawal::pending)
        return;
    parker& who = *w.owner_;
    who.waiting_on = nullptr;
    who.reason = why;
    auto& fiber = static_cast<fiber_record&>(who);
    if (recorder_) [[unlikely]]
        make_ready_traced(fiber);
    else
        make_ready(fiber);
}

void scheduler::yield_spent() {
    pace_.poll_at_next_switch(); // it has run long: look outside now
    yield();
}

void scheduler::keep_time() {
    if (outside_->coarse_now() - last_poll_ >= longest_unpolled) [[unlikely]]
        yield_spent();
}

// A yield that finds no other fiber ready polls at once, which may make some ready. Otherwise a
// fiber that yields alone would see deadlines, completions and the cancels of other threads only
// once in 64 yields, however long it computes between them.
void scheduler::yield_alone() {
    if (!anything_ready() && !dispatcher_due_) {
        poll_round();
        if (!anything_ready() && !dispatcher_due_) {
            renew_budget(*current_);
            return;
        }
    }
    yield();
}

// With nothing ready it polls and waits on the stack of the fiber that parks. If the wake of that
// fiber comes first, it returns without a switch.
template <bool traced>
[[gnu::always_inline]] inline void scheduler::loop_as() {
    fiber_record& self = *current_;
    for (;;) {
        if (dispatcher_due_) {
            dispatcher_held_ = false;
            switch_to(*dispatcher_);
            return;
        }
        fiber_record* next = next_fiber();
        if constexpr (traced)
            if (next != nullptr)
                recorder_->runs(*next);
        if (next == &self) {
            renew_budget(self);
            return;
        }
        if (next != nullptr) {
            switch_to(*next);
            return;
        }
        idle_round();
    }
}

void scheduler::loop_until_switch() {
    if (pace_.look_is_due()) [[unlikely]] {
        if (poll_is_due())
            poll_round();
        if (recorder_) { // in a traced run each switch comes here
            loop_as<true>();
            return;
        }
    }
    loop_as<false>();
}

fiber_record* scheduler::next_fiber() {
    while (runnable* r = pace_.pop(ready_)) {
        if (r->kind == runnable::kind_type::fiber)
            return static_cast<fiber_record*>(r);
        if (fiber_record* f = bind(static_cast<task_record&>(*r)))
            return f;
    }
    return nullptr;
}

// If the poll is put off, wakes of other threads and our timers are not: they cost little.
// In a traced run each switch of ours comes here first, and each carrier that has ended its task
// and looks for another. pick_next() tells the trace of Boost's switches.
bool scheduler::poll_is_due() noexcept {
    if (recorder_) [[unlikely]] {
        recorder_->stops(*current_);
        if (pace_.pass_held_back())
            return false;
    }
    if (pace_.round_is_over())
        return true;
    const time_point t = outside_->now();
    if (polling_pace::is_too_long(t - last_poll_))
        return true;
    pace_.put_off(t);
    if (recorder_) [[unlikely]]
        pace_.hold_back();
    incoming_.deliver_all();
    fire_timers(t);
    look_at_boost();
    return false;
}

void scheduler::poll_round() noexcept {
    ++counters_.polls;
    outside_->poll();
    take_in();
}

// The poller's completions come before the timers: success beats a deadline.
void scheduler::take_in() noexcept {
    incoming_.deliver_all();
    if (!dropped_.empty()) [[unlikely]]
        end_dropped_meanwhile();
    last_poll_ = outside_->now();
    fire_timers(last_poll_);
    pace_.begin_round(last_poll_, ready_);
    // From here on, because a round that begins forgets that a look is due.
    if (last_poll_ >= next_trim_) [[unlikely]] {
        trim();
        if (last_poll_ >= next_search())
            search_soon();
    }
    live.tell(last_poll_, tasks_alive_, carriers_.alive(), carriers_.idle());
    look_at_boost();
    if (requests_ != nullptr) [[unlikely]]
        if (!std::exchange(slice_is_done_, false) || dispatcher_due_)
            call_dispatcher();
    if (recorder_) [[unlikely]]
        took_in_traced(); // the last call, which so saves no registers for it
}

[[gnu::noinline]] void scheduler::took_in_traced() noexcept {
    pace_.hold_back();
    recorder_->was_outside();
}

// Nothing is ready. Why no wake of another thread is lost meanwhile: see inbox.hpp.
void scheduler::idle_round() noexcept {
    if (!dropped_.empty()) [[unlikely]]
        end_dropped_meanwhile();
    if (anything_ready())
        return;
    if (requests_ != nullptr) [[unlikely]] {
        call_dispatcher();
        return;
    }
    if (spinning_.enabled() && spinning_.try_it() && spin_traced()) {
        stuck_since_ = time_point::max();
        pace_.was_idle();
        take_in();
        return;
    }
    const time_point patience = patience_ends();
    if (incoming_.announce_sleep()) {
        ++counters_.waits;
        outside_->wait_until(std::min(next_deadline(), patience));
    } else {
        ++counters_.polls;
        outside_->poll(); // other threads that keep us busy must not starve the I/O
    }
    incoming_.end_sleep();
    pace_.was_idle();
    take_in();
    waited_until(patience);
}

// Looks for work for a while, and is not marked as asleep, so that other threads need no kick. True
// if there is some. A timer that comes due ends it and counts neither way: the thread could have
// slept until then.
bool scheduler::spin() noexcept {
    ++counters_.spins;
    const time_point due = next_deadline();
    const time_point end = outside_->now() + spinning_.span();
    for (auto looks = spinning_.looks(); looks > 0; --looks) {
        outside_->poll();
        if (anything_ready() || incoming_.has_nodes() || incoming_.bell_was_rung()) {
            ++counters_.spins_paid;
            spinning_.ended(true);
            return true;
        }
        const time_point t = outside_->now();
        if (t >= end) // also when the kernel took the core away, and a timer came due meanwhile
            break;
        if (t >= due)
            return false;
        relax_core();
    }
    ++counters_.spins_wasted;
    spinning_.ended(false);
    return false;
}

bool scheduler::spin_traced() noexcept {
    if (!recorder_) [[likely]]
        return spin();
    recorder_->begin_spin();
    const bool found = spin();
    recorder_->end_spin();
    return found;
}

time_point scheduler::next_deadline() noexcept {
    time_point next = timers_.next_deadline();
    if (has_surplus())
        next = std::min(next, next_trim_);
    next = std::min(next, std::max(next_search(), next_trim_)); // they come together
    if (boost_deadline_ != time_point::max()) { // Boost's clock is real, the poller's may not be
        const time_point real = std::min(clock::now(), boost_deadline_);
        next = std::min(next, deadline_after(outside_->now(), boost_deadline_ - real));
    }
    return next;
}

void scheduler::look_at_boost() noexcept {
    if (incoming_.bell_was_rung() ||
        (boost_deadline_ != time_point::max() && boost_deadline_ <= clock::now()))
        call_dispatcher();
}

void scheduler::fire_timers(time_point t) noexcept {
    while (timer* due = timers_.pop_due(t))
        due->fire(*due);
}

} // namespace creel::detail
