// The loop of a scheduler: how a fiber waits, what runs next, and when the outside world is polled.
#include <creel/fibers/detail/run/scheduler.hpp>

#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/system/relax_core.hpp>

#include <algorithm>
#include <chrono>
#include <new>

namespace creel::detail {

namespace {

// While something is always ready, the outside world is looked at once in a round, which ends when
// all that was ready at the last poll has run; but not more often than every 64 switches, which
// keeps it cheap for a few fibers that yield, and not less often than every 2,048, which bounds how
// long timers and completions wait behind a long queue. Polling every 64 switches whatever the
// queue was measured and rejected: completions then pile up in front of hundreds of ready fibers,
// their data falls out of the cache, and an echo of 16 KiB on 512 connections cost 1.4 to 1.7 times
// the CPU of one that polls once a round.
constexpr int looks_per_round = 32;
// A round of slow fibers ends sooner, and so many switches are looked after at a time that they
// take no longer than this (at first, after quick ones, the usual number of them).
constexpr duration longest_round = std::chrono::milliseconds{10};
constexpr duration longest_unlooked = std::chrono::milliseconds{2};

// After so long without a poll a checkpoint polls. With a coarse clock that is up to 5 ms late, a
// fiber that calls it between short slices sees its deadline within 10 ms.
constexpr duration longest_unpolled = std::chrono::milliseconds{5};

struct park_timer : timer {
    waiter* who;
};

} // namespace

wake_reason scheduler::park(waiter& w) {
    fiber_record& self = *current_;
    if (w.woken_)
        return wake_reason::signalled;
    self.waiting_on = &w;
    if (options_.debug) [[unlikely]]
        name_wait_in_call_once();
    if (may_be_cancelled(self) && w.kind_->cancellable && visible_cancel(self) != nullptr)
        [[unlikely]]
        interrupt(w, wake_reason::cancelled);
    suspend_current();
    return self.reason;
}

wake_reason scheduler::park_until(waiter& w, time_point deadline, duration span) {
    park_timer t;
    t.who = &w;
    t.fire = [](timer& fired) noexcept {
        waiter& due = *static_cast<park_timer&>(fired).who;
        due.owner_->home->interrupt(due, wake_reason::timed_out);
    };
    try {
        timers_.arm(t, deadline, span);
    } catch (const std::bad_alloc&) {
        // The caller has published the waiter: take it back before throwing, unless it was taken.
        w.withdraw_requested_ = true;
        if (!w.woken_ && w.kind_->withdraw(w, wake_reason::timed_out) == withdrawal::withdrawn)
            throw;
        return park(w);
    }
    const wake_reason reason = park(w);
    timers_.cancel(t);
    return reason;
}

void scheduler::wake_arrived(waiter& w) noexcept {
    w.woken_ = true;
    parker& who = *w.owner_;
    if (who.waiting_on == &w) { // else it has not parked yet, and will see woken_
        who.waiting_on = nullptr;
        who.reason = wake_reason::signalled;
        make_ready(static_cast<fiber_record&>(who));
    }
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
    make_ready(static_cast<fiber_record&>(who));
}

void scheduler::yield_spent() {
    polls_in_ = 0; // it has run long: look outside now
    looks_ = looks_per_round;
    yield();
}

void scheduler::keep_time() {
    if (outside_->coarse_now() - last_poll_ >= longest_unpolled) [[unlikely]]
        yield_spent();
}

// One that finds no other fiber ready polls at once, which may make some ready: else a fiber that
// yields alone would see deadlines, completions and other threads' cancels once in 64 yields,
// however long it computes between them.
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

// With nothing ready it polls and waits on the parking fiber's own stack: if its own wake comes
// first, it returns without a switch.
void scheduler::suspend_slowly() {
    fiber_record& self = *current_;
    for (;;) {
        if (polls_in_ < 0 && poll_is_due())
            poll_round();
        if (dispatcher_due_) {
            dispatcher_held_ = false;
            switch_to(*dispatcher_);
            return;
        }
        fiber_record* next = next_fiber();
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

fiber_record* scheduler::next_fiber() {
    while (runnable* r = pop_ready()) {
        if (r->kind == runnable::kind_type::fiber)
            return static_cast<fiber_record*>(r);
        if (fiber_record* f = bind(static_cast<task_record&>(*r)))
            return f;
    }
    return nullptr;
}

// Where the poll itself is put off, other threads' wakes and our timers are not: they cost little.
bool scheduler::poll_is_due() noexcept {
    if (!marker_queued_ || ++looks_ >= looks_per_round)
        return true;
    const time_point t = outside_->now();
    if (t - last_poll_ >= longest_round)
        return true;
    pace(t);
    polls_in_ = unlooked_switches_;
    drain_inbox();
    fire_timers(t);
    look_at_boost();
    return false;
}

// How many switches go by until the next look at the clock, and with it the budget of each fiber:
// fewer while slices are long. What ends now, at t, began at last_look_ with nothing but switches
// in between, unless that is max(): then the thread has slept.
void scheduler::pace(time_point t) noexcept {
    const duration took = last_look_ == time_point::max() ? duration{} : t - last_look_;
    last_look_ = t;
    if (took > longest_unlooked)
        unlooked_switches_ = static_cast<int>(
            std::max<duration::rep>(1, unlooked_switches_ * longest_unlooked / took));
    else
        unlooked_switches_ = std::min(2 * unlooked_switches_, switches_per_look);
    full_budget_ = budget_per_unlooked_switch * unlooked_switches_;
}

void scheduler::begin_round() noexcept {
    polls_in_ = unlooked_switches_;
    looks_ = 0;
    if (!marker_queued_ && !ready_.empty()) {
        marker_queued_ = true;
        ready_.push(marker_);
    }
}

void scheduler::poll_round() noexcept {
    ++counters_.polls;
    outside_->poll();
    take_in();
}

// What the poller delivered comes before what timers end: success beats a deadline.
void scheduler::take_in() noexcept {
    drain_inbox();
    if (!dropped_.empty()) [[unlikely]]
        end_dropped_meanwhile();
    last_poll_ = outside_->now();
    fire_timers(last_poll_);
    if (last_poll_ >= next_trim_) [[unlikely]]
        trim();
    pace(last_poll_);
    begin_round();
    look_at_boost();
}

// Nothing is ready. The store to sleeping_ and the loads after it pair with the push and the load
// in post() and notify(), all seq_cst: either we see their work, or they see us asleep and kick.
void scheduler::idle_round() noexcept {
    if (!dropped_.empty()) [[unlikely]]
        end_dropped_meanwhile();
    if (anything_ready())
        return;
    if (spinning_.enabled() && spinning_.try_it() && spin()) {
        last_look_ = time_point::max(); // what went by were no slices
        take_in();
        return;
    }
    sleeping_.store(true);
    if (inbox_.load() == nullptr && !boost_remote_.load()) {
        ++counters_.waits;
        outside_->wait_until(next_deadline());
    } else {
        ++counters_.polls;
        outside_->poll(); // other threads that keep us busy must not starve the I/O
    }
    sleeping_.store(false, std::memory_order_relaxed); // a needless kick is harmless
    last_look_ = time_point::max();
    take_in();
}

// Looks for work for a while, not marked as asleep: other threads then need no kick. True if there
// is some. A timer that comes due ends it and counts neither way: it could have been slept for.
bool scheduler::spin() noexcept {
    ++counters_.spins;
    const time_point due = next_deadline();
    const time_point end = outside_->now() + spinning_.span();
    for (auto looks = spinning_.looks(); looks > 0; --looks) {
        outside_->poll();
        if (anything_ready() || inbox_.load(std::memory_order_relaxed) != nullptr ||
            boost_remote_.load(std::memory_order_relaxed)) {
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

time_point scheduler::next_deadline() noexcept {
    time_point next = timers_.next_deadline();
    if (has_surplus())
        next = std::min(next, next_trim_);
    if (boost_deadline_ != time_point::max()) { // Boost's clock is real, the poller's may not be
        const time_point real = std::min(clock::now(), boost_deadline_);
        next = std::min(next, deadline_after(outside_->now(), boost_deadline_ - real));
    }
    return next;
}

void scheduler::look_at_boost() noexcept {
    if (boost_remote_.load(std::memory_order_relaxed) ||
        (boost_deadline_ != time_point::max() && boost_deadline_ <= clock::now()))
        call_dispatcher();
}

void scheduler::drain_inbox() noexcept {
    if (inbox_.load(std::memory_order_relaxed) == nullptr)
        return;
    inbox_node* newest = inbox_.exchange(nullptr, std::memory_order_acquire);
    inbox_node* oldest = nullptr;
    while (newest != nullptr) { // a stack: turn it round, first come first served
        inbox_node* next = newest->next_in_inbox;
        newest->next_in_inbox = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != nullptr) {
        inbox_node* next = oldest->next_in_inbox;
        oldest->deliver(*oldest);
        oldest = next;
    }
}

void scheduler::fire_timers(time_point t) noexcept {
    while (timer* due = timers_.pop_due(t))
        due->fire(*due);
}

// Only the pusher that finds the inbox empty has to look whether we sleep: the others know that
// one before them did, or that we are about to drain.
void scheduler::post(inbox_node& node) noexcept {
    inbox_node* head = inbox_.load(std::memory_order_relaxed);
    do
        node.next_in_inbox = head;
    while (!inbox_.compare_exchange_weak(head, &node));
    if (head == nullptr)
        kick_if_sleeping();
}

void scheduler::notify() noexcept {
    boost_remote_.store(true);
    kick_if_sleeping();
}

void scheduler::kick_if_sleeping() noexcept {
    if (!sleeping_.load())
        return;
    const std::lock_guard lock{kick_mutex_};
    if (kickable_ != nullptr)
        kickable_->wake();
}

} // namespace creel::detail
