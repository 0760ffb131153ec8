#include <creel/fibers/waiter.hpp>

#include <creel/fibers/detail/cancel/audit.hpp>
#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/cancel/standing_reason.hpp>
#include <creel/fibers/detail/run/forked_run.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/detail/system/futex.hpp>
#include <creel/fibers/detail/system/relax_core.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <new>

namespace creel {

namespace detail {

namespace {

thread_local thread_parker plain_thread;

std::atomic<party_number> next_thread_number{first_thread_party};

party_number this_thread_number() noexcept {
    thread_local party_number mine = 0;
    if (mine == 0) [[unlikely]]
        mine = next_thread_number.fetch_add(1, std::memory_order_relaxed); // unique, no more
    return mine;
}

constexpr int spins_before_sleep = 200;

} // namespace

parker& this_parker() noexcept {
    if (scheduler* s = scheduler::current())
        return s->running();
    refuse_in_forked_run("a call of creel");
    return plain_thread;
}

thread_parker& this_thread_parker() noexcept {
    return plain_thread;
}

// A thread that is woken or poked already looks at its tokens in its next wait.
void poke(thread_parker& who) noexcept {
    std::uint32_t seen = thread_parker::awake;
    while (!who.futex_word.compare_exchange_weak(seen, thread_parker::poked))
        if (seen != thread_parker::awake && seen != thread_parker::sleeping)
            return;
    if (seen == thread_parker::sleeping)
        futex_wake_one(who.futex_word);
}

} // namespace detail

waiter::waiter(const waiter_kind& kind) noexcept : kind_(&kind), home_(detail::this_scheduler) {
    if (home_ != nullptr) [[likely]] {
        owner_ = &home_->running();
        return;
    }
    owner_ = &detail::this_parker();
    static_cast<detail::thread_parker*>(owner_)->futex_word.store(detail::thread_parker::awake,
                                                                  std::memory_order_relaxed);
}

// The park of a plain thread; thread_parker has the states of its word. The waker's exchange of the
// word (release, in wake) pairs with the acquire here. After it the waker touches neither waiter
// nor parker; the futex call only names the address.
//
// A token that another thread cancels is not missed. That thread writes the token's state and then
// pokes, both with the token's mutex held. This thread resets the word, and then looks at the state
// with the same mutex, in notice(). If the other thread had the mutex first, this one sees the
// state. If this thread had it first, the poke finds the word at `awake`, so that this thread does
// not go to sleep, or at `sleeping`, and wakes it.
wake_reason waiter::park_thread(time_point own_deadline) {
    using word = detail::thread_parker;
    auto& me = static_cast<detail::thread_parker&>(*owner_);
    auto is_woken = [&] { return me.futex_word.load(std::memory_order_acquire) == word::woken; };
    for (int i = 0; i < detail::spins_before_sleep && !is_woken(); ++i)
        detail::relax_core();
    me.waiting_on = this;
    wake_reason reason = wake_reason::signalled;
    while (!is_woken()) {
        std::uint32_t seen = me.futex_word.load(std::memory_order_relaxed);
        while (seen != word::woken && !me.futex_word.compare_exchange_weak(seen, word::awake)) {
        }
        time_point deadline = time_point::max();
        if (!withdraw_requested_) {
            wake_reason why = wake_reason::signalled;
            if (kind_->cancellable) {
                detail::notice(me);
                if (detail::visible_cancel(me) != nullptr)
                    why = wake_reason::cancelled;
            }
            if (why == wake_reason::signalled && own_deadline != time_point::max() &&
                own_deadline <= now())
                why = wake_reason::timed_out;
            if (why != wake_reason::signalled) {
                withdraw_requested_ = true;
                if (kind_->withdraw(*this, why) == withdrawal::withdrawn) {
                    reason = why;
                    break;
                }
                continue; // pending: the waiter was taken, its wake is on the way
            }
            deadline = own_deadline;
            if (kind_->cancellable)
                deadline = std::min(deadline, detail::earliest_event(me));
        }
        seen = word::awake;
        if (me.futex_word.compare_exchange_strong(seen, word::sleeping))
            detail::futex_wait(me.futex_word, word::sleeping, deadline);
    }
    me.waiting_on = nullptr;
    return reason;
}

// Not the parker's address: a carrier is used again by the next task, a thread's by the next
// thread.
party_number this_party() noexcept {
    detail::scheduler* s = detail::this_scheduler;
    return s != nullptr ? detail::number_of(s->running()) : detail::this_thread_number();
}

time_point recent_time() noexcept {
    return detail::this_scheduler != nullptr ? detail::this_scheduler->last_poll() : clock::now();
}

// A fiber's park. With nothing ready, suspend_current() polls and waits on the fiber's own stack.
// It has a frame of its own, from which prefetch_registers() counts.
[[gnu::noinline]] wake_reason park(waiter& w) {
    if (w.home_ == nullptr) [[unlikely]]
        return w.park_thread(time_point::max());
    if (w.woken_)
        return wake_reason::signalled;
    detail::scheduler& home = *w.home_;
    detail::fiber_record& self = home.running();
    self.waiting_on = &w;
    self.parked_at = static_cast<const char*>(__builtin_frame_address(0));
    self.parked_since = home.last_poll();
    if (home.debug()) [[unlikely]]
        home.audit_park(w);
    if (detail::may_be_cancelled(self) && w.kind_->cancellable &&
        detail::visible_cancel(self) != nullptr) [[unlikely]]
        home.interrupt(w, wake_reason::cancelled);
    home.suspend_current();
    return self.reason;
}

namespace {

struct park_timer : detail::timer {
    waiter* who;
};

} // namespace

wake_reason park_until(waiter& w, saturating_time_point deadline, saturating_duration span) {
    if (w.home_ == nullptr) [[unlikely]]
        return w.park_thread(deadline);
    park_timer t;
    t.who = &w;
    w.has_timer_ = true;
    t.fire = [](detail::timer& fired) noexcept {
        waiter& due = *static_cast<park_timer&>(fired).who;
        due.home_->interrupt(due, wake_reason::timed_out);
    };
    try {
        w.home_->arm(t, deadline, span);
    } catch (const std::bad_alloc&) {
        // The caller has published the waiter: take it back before throwing, unless it was taken.
        w.withdraw_requested_ = true;
        if (!w.woken_ && w.kind_->withdraw(w, wake_reason::timed_out) == withdrawal::withdrawn)
            throw;
        return park(w);
    }
    const wake_reason reason = park(w);
    w.home_->cancel(t);
    return reason;
}

void wake(waiter& w) noexcept {
    if (w.is_here()) {
        w.home_->wake_arrived(w);
    } else if (w.home_ != nullptr) {
        w.deliver = [](inbox_node& node) noexcept {
            auto& delivered = static_cast<waiter&>(node);
            delivered.home_->wake_arrived(delivered);
        };
        w.home_->incoming().post(w);
    } else {
        auto& word = static_cast<detail::thread_parker*>(w.owner_)->futex_word;
        if (word.exchange(detail::thread_parker::woken, std::memory_order_acq_rel) ==
            detail::thread_parker::sleeping)
            detail::futex_wake_one(word);
    }
}

namespace {

void check_cancel_of(const detail::parker& me) {
    if (detail::may_be_cancelled(me)) [[unlikely]]
        if (detail::visible_cancel(me) != nullptr)
            throw_cancelled();
}

// A plain thread has no timers and no inbox: it looks at its scopes in passing.
void check_cancel_of_thread() {
    detail::parker& me = detail::this_parker();
    detail::glance(me);
    check_cancel_of(me);
}

} // namespace

void check_cancel_only() {
    if (detail::scheduler* s = detail::this_scheduler) [[likely]]
        check_cancel_of(s->running());
    else
        check_cancel_of_thread();
}

void check_cancel() {
    if (detail::scheduler* s = detail::this_scheduler) [[likely]] {
        check_cancel_of(s->running());
        s->spend_budget();
    } else {
        check_cancel_of_thread();
    }
}

bool check_cancel_in_place() {
    check_cancel_only();
    detail::scheduler* s = detail::this_scheduler;
    return s == nullptr || s->spend_budget_in_place();
}

void throw_cancelled() {
    detail::parker& me = detail::this_parker();
    const detail::scope_core* s = detail::visible_cancel(me);
    // No cancel is in sight any more if a shield was raised after the wait had been withdrawn.
    for (const detail::scope_core* c = me.scope; s == nullptr && c != nullptr; c = c->parent)
        if (c->own.reason != nullptr)
            s = c;
    const auto& reason = s != nullptr ? s->own.reason : detail::unknown_reason();
    if (me.home == nullptr)
        throw cancelled{reason};
    detail::audit_throw(me, s);
    throw cancelled{detail::reason_to_throw(me, reason)};
}

} // namespace creel
