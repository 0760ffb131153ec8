#include <creel/fibers/cancel_scope.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/scheduler.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>

namespace creel {

namespace {
const std::shared_ptr<const cancel_reason>& deadline_reason() {
    static const auto reason = std::make_shared<const cancel_reason>(
        cancel_reason{cancel_cause::deadline, "the deadline has passed", 0});
    return reason;
}
} // namespace

namespace detail {

time_point deadline_after(duration d) noexcept {
    const time_point t = now();
    return d > time_point::max() - t ? time_point::max() : t + d;
}

void throw_not_finished(const cancel_scope& scope) {
    if (scope.reason() != nullptr && scope.reason()->cause == cancel_cause::deadline)
        throw timed_out{};
    throw_cut_short(scope);
}

void throw_cut_short(const cancel_scope& scope) {
    throw task_cancelled{scope.reason() != nullptr ? scope.reason()->text : std::string{}};
}

cancel_scope* scope_access::visible_cancel(const parker& who) noexcept {
    if (!may_be_cancelled(who))
        return nullptr;
    return visible_cancel(who, who.scope, uncaught_exceptions_of(who));
}

// The destructor rule. `count` is what the scopes of one fiber must have been entered at to be
// obeyed. Within a fiber entry counts only grow inwards, so the first that differs ends the walk.
// Past the fiber's outermost scope lies its nursery, opened by another fiber: it is in sight only
// if this fiber is not unwinding (0 is the count it began with), and then as far as the opener saw
// when it opened it.
cancel_scope* scope_access::visible_cancel(const parker& who, cancel_scope* innermost,
                                           int count) noexcept {
    cancel_scope* found = nullptr;
    const parker* owner = &who;
    for (cancel_scope* s = innermost; s != nullptr; s = s->parent_) {
        if (s->owner_ != owner) {
            if (count != 0)
                break;
            owner = s->owner_;
            count = s->entry_count_;
        }
        if (s->entry_count_ != count)
            break;
        if (s->cancelled_)
            found = s;
        if (s->shielded_)
            break;
    }
    return found;
}

// Brings one fiber's scopes up to date, from `from` (null: its outermost) inwards, and interrupts
// its wait if that now sees a cancel. Nurseries whose state changed are put on the work list.
void scope_access::update_chain(parker& who, const cancel_scope* from, const cancel_scope* changed,
                                nursery_core*& work) noexcept {
    cancel_scope* outermost = nullptr;
    for (cancel_scope* s = who.scope; s != nullptr && s->owner_ == &who; s = s->parent_) {
        s->inner_ = outermost;
        outermost = s;
        if (s == from)
            break;
    }
    for (cancel_scope* s = outermost; s != nullptr; s = s->inner_) {
        const bool effective =
            s->cancelled_ || (s->parent_ != nullptr && s->parent_->effective_ && !s->shielded_);
        // One that was effective already may only now be in sight (the destructor rule), so only
        // what is not cancelled at all ends the walk.
        if (!effective && !s->effective_ && s != changed)
            break;
        s->effective_ = effective;
        if (s->nursery_ != nullptr) {
            s->nursery_->next_to_spread = work;
            work = s->nursery_;
        }
    }
    waiter* w = who.waiting_on;
    if (w != nullptr && who.home != nullptr && w->kind().cancellable &&
        visible_cancel(who) != nullptr)
        who.home->interrupt(*w, wake_reason::cancelled);
}

// Iterative, so that neither deep scopes nor deep nurseries need stack: the caller may be a fiber.
// Runs no user code; withdrawals only unlink or mark.
void scope_access::spread(cancel_scope& scope) noexcept {
    nursery_core* work = nullptr;
    update_chain(*scope.owner_, &scope, &scope, work);
    if (scope.owner_->home != nullptr)
        scope.owner_->home->update_natives(work);
    while (work != nullptr) {
        nursery_core* n = work;
        work = n->next_to_spread;
        for (task* t = n->first_child; t != nullptr; t = t->next)
            if (t->runner != nullptr)
                update_chain(*t->runner, nullptr, nullptr, work);
    }
}

void scope_access::fire_deadline(timer& fired) noexcept {
    static_cast<cancel_scope::deadline_timer&>(fired).scope->expire();
}

void scope_access::notice_deadlines(parker& who) noexcept {
    const time_point earliest = earliest_deadline(who);
    if (earliest == time_point::max())
        return;
    const time_point t = now();
    if (t < earliest)
        return;
    for (cancel_scope* s = who.scope; s != nullptr; s = s->parent_)
        if (s->deadline_ <= t)
            s->expire();
}

time_point scope_access::earliest_deadline(const parker& who) noexcept {
    time_point earliest = time_point::max();
    for (const cancel_scope* s = who.scope; s != nullptr; s = s->parent_)
        if (!s->cancelled_)
            earliest = std::min(earliest, s->deadline_);
    return earliest;
}

} // namespace detail

cancel_scope::~cancel_scope() {
    CREEL_ASSERT(owner_ == nullptr, "a cancel_scope was destroyed while its run() goes on");
}

void cancel_scope::enter(duration span) {
    CREEL_ASSERT(!entered_, "a cancel_scope is entered once; make a new one for each run()");
    detail::parker& me = detail::this_parker();
    owner_ = &me;
    parent_ = me.scope;
    entry_count_ = detail::uncaught_exceptions_of(me);
    effective_ = cancelled_ || (parent_ != nullptr && parent_->effective_ && !shielded_);
    if (deadline_ != time_point::max()) {
        try {
            arm(span);
        } catch (...) { // no memory for the timer; nobody else knows of this scope yet
            owner_ = nullptr;
            throw;
        }
    }
    entered_ = true;
    me.scope = this;
    if (parent_ == nullptr && me.home != nullptr)
        me.home->outermost_entered(me);
}

// `span` is the duration the deadline was just made from, and saves reading the clock again.
void cancel_scope::arm(duration span) {
    timer_.scope = this;
    timer_.fire = detail::scope_access::fire_deadline;
    const bool passed = span != duration{} ? span < duration{} : deadline_ <= now();
    if (passed)
        expire();
    else if (owner_->home != nullptr)
        owner_->home->arm(timer_, deadline_, span);
}

void cancel_scope::expire() noexcept {
    if (cancelled_)
        return;
    cancelled_ = true;
    reason_ = deadline_reason();
    if (entered_)
        detail::scope_access::spread(*this);
    else
        effective_ = true;
}

void cancel_scope::leave() noexcept {
    detail::parker& me = *owner_;
    CREEL_ASSERT(me.scope == this, "cancel scopes must be left in the reverse order of entering");
    if (timer_.armed())
        me.home->cancel(timer_);
    me.scope = parent_;
    if (parent_ == nullptr && me.home != nullptr)
        me.home->outermost_left(*this);
    owner_ = nullptr;
}

bool cancel_scope::leave_absorbing() noexcept {
    if (owner_->home == nullptr)
        detail::scope_access::notice_deadlines(*owner_);
    // A shield hides the parent's cancel here as it did inside (Trio does the same).
    const bool absorbs =
        cancelled_ &&
        (shielded_ || parent_ == nullptr ||
         detail::scope_access::visible_cancel(*owner_, parent_, entry_count_) == nullptr);
    leave();
    return absorbs;
}

void cancel_scope::cancel(std::string text) {
    cancel(cancel_reason{cancel_cause::requested, std::move(text), 0});
}

void cancel_scope::cancel(cancel_reason reason) {
    require_own_thread("a cancel_scope is cancelled on the thread that entered it");
    if (cancelled_)
        return;
    auto shared = std::make_shared<const cancel_reason>(std::move(reason));
    cancelled_ = true;
    reason_ = std::move(shared);
    if (owner_ != nullptr)
        detail::scope_access::spread(*this);
}

void cancel_scope::set_deadline(time_point deadline) {
    deadline_ = deadline;
    if (owner_ == nullptr)
        return;
    require_own_thread("the deadline of a cancel_scope is moved on the thread that entered it");
    if (timer_.armed())
        owner_->home->cancel(timer_);
    if (deadline_ != time_point::max() && !cancelled_)
        arm(duration{});
}

void cancel_scope::set_shielded(bool shielded) {
    if (shielded_ == shielded)
        return;
    require_own_thread("a cancel_scope is shielded on the thread that entered it");
    shielded_ = shielded;
    if (owner_ != nullptr)
        detail::scope_access::spread(*this);
}

bool cancel_scope::cancel_called() const noexcept {
    const bool left = entered_ && owner_ == nullptr;
    return cancelled_ || (!left && deadline_ != time_point::max() && deadline_ <= now());
}

void cancel_scope::require_own_thread(const char* rule) const {
    const bool own =
        owner_ == nullptr || (owner_->home != nullptr ? owner_->home == detail::this_scheduler
                                                      : owner_ == &detail::this_thread_parker());
    CREEL_ASSERT(own, rule);
}

} // namespace creel
