#include <creel/fibers/cancel_scope.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/detail/cancel/audit.hpp>
#include <creel/fibers/detail/cancel/standing_reason.hpp>
#include <creel/fibers/detail/cancel/token.hpp>
#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <new>

namespace creel {

using level = detail::cancel_level;

namespace {
constinit detail::standing_reason deadline_reason{cancel_cause::deadline,
                                                  "the deadline has passed"};
const detail::standing_reasons_made deadline_reason_is_made{deadline_reason};
} // namespace

namespace detail {

void throw_not_finished(const cancel_scope& scope, const duration* limit,
                        const std::source_location& where) {
    if (scope.reason() == nullptr || scope.reason()->cause != cancel_cause::deadline)
        throw_cut_short(scope, where);
    throw timed_out{scope_access::reason_of(scope),
                    limit != nullptr ? std::optional{*limit} : std::nullopt, scope.deadline(),
                    where};
}

void throw_cut_short(const cancel_scope& scope, const std::source_location& where) {
    throw task_cancelled{scope_access::reason_in_sight_of(scope), where};
}

std::shared_ptr<const cancel_reason>
scope_access::reason_in_sight_of(const cancel_scope& scope) noexcept {
    if (scope.sight_ != nullptr && scope.sight_->reason_ != nullptr)
        return scope.sight_->reason_;
    return scope.reason_ != nullptr ? scope.reason_ : unknown_reason();
}

} // namespace detail

cancel_scope::~cancel_scope() {
    if (owner_ != nullptr) [[unlikely]]
        destroyed_inside();
    if (links_ != nullptr)
        detail::scope_access::drop_links(*this);
}

void cancel_scope::destroyed_inside() const noexcept {
    std::string text = "a cancel_scope was destroyed while its run() goes on";
    try {
        text = "a cancel_scope was destroyed while " + detail::name_of(*owner_) +
               " is inside its run(): declare it outside with_nursery, or join() the nursery "
               "before it goes";
    } catch (const std::bad_alloc&) { // the shorter text says it, too
    }
    assertion_failed("nobody is inside", text.c_str(), std::source_location::current());
}

void cancel_scope::enter(duration span) {
    CREEL_ASSERT(!entered_, "a cancel_scope is entered once; make a new one for each run()");
    detail::parker& me = detail::this_parker();
    parent_ = me.scope;
    entry_count_ = detail::uncaught_exceptions_of(me);
    if (links_ != nullptr) [[unlikely]]
        detail::scope_access::enter_links(*this, me); // a token may have been cancelled already
    owner_ = &me;
    if (own_ != level::cancelled && next_event() != time_point::max()) {
        try {
            arm(span);
        } catch (...) { // no memory for the timer; only tokens know of this scope yet
            owner_ = nullptr;
            detail::scope_access::enter_failed(*this);
            throw;
        }
    }
    entered_ = true;
    me.scope = this;
    (me.outermost != nullptr ? parent_->inner_ : me.outermost) = this;
    if (own_ != level::none || (parent_ != nullptr && parent_->sight_level_ != level::none))
        [[unlikely]]
        detail::scope_access::spread(*this);
    if (parent_ == nullptr && me.home != nullptr)
        me.home->outermost_changed(me);
}

// `span` is the duration the deadline was just made from, and saves reading the clock again.
void cancel_scope::arm(duration span) {
    timer_.scope = this;
    timer_.fire = detail::scope_access::fire_deadline;
    const bool is_fresh = span != duration{} && deadline_ <= takes_effect_;
    const bool passed = is_fresh ? span < duration{} : next_event() <= now();
    if (passed)
        static_cast<void>(expire());
    else if (owner_->home != nullptr)
        owner_->home->arm(timer_, next_event(), is_fresh ? span : duration{});
}

bool cancel_scope::expire() noexcept {
    if (own_ == level::cancelled)
        return false;
    own_ = level::cancelled;
    if (reason_ == nullptr) {
        reason_ = deadline_reason.get();
        requested_at_ = deadline_;
    }
    return true;
}

void cancel_scope::leave() noexcept {
    detail::parker& me = *owner_;
    CREEL_ASSERT(me.scope == this,
                 "cancel scopes must be left in the reverse order of entering: run() them one "
                 "inside the other");
    if (timer_.armed())
        me.home->cancel(timer_);
    if (links_ != nullptr) [[unlikely]]
        detail::scope_access::drop_links(*this);
    if (own_ != level::none) [[unlikely]] {
        if (me.thrown_for == this)
            me.thrown_for = nullptr; // absorbed, or replaced by another exception: not swallowed
        if (me.home != nullptr)      // a deadline may lie before the clock's beginning
            me.home->count_cancel(now() - std::max(requested_at_, time_point{}));
    }
    me.scope = parent_;
    (me.outermost != this ? parent_->inner_ : me.outermost) = nullptr;
    if (parent_ == nullptr && me.home != nullptr)
        me.home->outermost_changed(me);
    owner_ = nullptr;
    if (sight_ != nullptr) [[unlikely]] { // it may be a scope that is about to go
        sight_ = own_ != level::none ? this : nullptr;
        sight_level_ = own_;
    }
}

bool cancel_scope::leave_absorbing() noexcept {
    if (owner_->home == nullptr)
        detail::scope_access::notice(*owner_);
    // A shield hides the parent's cancel here as it did inside (Trio does the same).
    const bool absorbs = own_ == level::cancelled && sight_ == this;
    leave();
    return absorbs;
}

void cancel_scope::cancel(std::string text, saturating_duration grace) {
    cancel(cancel_reason{cancel_cause::requested, std::move(text), 0}, grace);
}

void cancel_scope::cancel(cancel_reason reason, saturating_duration grace) {
    require_own_thread("a cancel_scope is cancelled on the thread that entered it; elsewhere, "
                       "cancel its token()");
    if (own_ == level::cancelled)
        return;
    request(detail::make_request(std::move(reason), grace));
}

void cancel_scope::request(const detail::cancel_request& request) noexcept {
    if (take(request))
        detail::scope_access::spread(*this);
}

bool cancel_scope::take(const detail::cancel_request& request) noexcept {
    if (!detail::says_more(request, {own_, nullptr, requested_at_, takes_effect_}))
        return false;
    if (reason_ == nullptr) {
        reason_ = request.reason;
        requested_at_ = request.requested_at;
    }
    takes_effect_ = std::min(takes_effect_, request.takes_effect);
    own_ = request.level;
    if (own_ == level::asked && owner_ != nullptr) {
        if (timer_.armed())
            owner_->home->cancel(timer_);
        try {
            arm(duration{});
        } catch (const std::bad_alloc&) { // no memory for the timer: rather now than never
            own_ = level::cancelled;
        }
    }
    return true;
}

cancel_token cancel_scope::token() {
    require_own_thread("the token of a cancel_scope is taken on the thread that entered it; copies "
                       "of it may then go anywhere");
    return detail::scope_access::token_of(*this);
}

void cancel_scope::set_deadline(saturating_time_point deadline) {
    require_own_thread("the deadline of a cancel_scope is moved on the thread that entered it; "
                       "elsewhere, cancel its token()");
    if (own_ == level::cancelled || (entered_ && owner_ == nullptr))
        return;
    const time_point t = now();
    const time_point next = std::min<time_point>(deadline, takes_effect_);
    // First of all, for that may fail. Should the deadline stay, it fires once too often.
    if (owner_ != nullptr && owner_->home != nullptr && next > t) {
        timer_.scope = this;
        timer_.fire = detail::scope_access::fire_deadline;
        if (next != time_point::max())
            owner_->home->rearm(timer_, next);
        else
            owner_->home->cancel(timer_);
    }
    const bool had_passed = (deadline_ != time_point::max() && deadline_ <= t) ||
                            !detail::scope_access::set_token_deadline(*this, deadline);
    if (!had_passed)
        deadline_ = deadline;
    if ((had_passed || (owner_ != nullptr && next <= t)) && expire())
        detail::scope_access::spread(*this);
}

void cancel_scope::set_shielded(bool shielded) {
    if (shielded_ == shielded)
        return;
    require_own_thread("a cancel_scope is shielded on the thread that entered it: call "
                       "set_shielded() there");
    shielded_ = shielded;
    if (owner_ != nullptr)
        detail::scope_access::spread(*this);
}

bool cancel_scope::cancel_called() const noexcept {
    const bool left = entered_ && owner_ == nullptr; // what had passed then was noted
    return own_ != level::none || (!left && deadline_ != time_point::max() && deadline_ <= now());
}

// As if it had been noticed at the last moment: its token, too, says so.
void cancel_scope::note_passed_deadline() noexcept {
    if (own_ == level::none && deadline_ != time_point::max() && deadline_ <= now())
        static_cast<void>(expire());
}

void cancel_scope::require_own_thread(const char* rule) const {
    const bool own =
        owner_ == nullptr || (owner_->home != nullptr ? owner_->home == detail::this_scheduler
                                                      : owner_ == &detail::this_thread_parker());
    CREEL_ASSERT(own, rule);
}

time_point current_deadline() noexcept {
    detail::parker& me = detail::this_parker();
    if (me.home == nullptr)
        detail::scope_access::notice(me);
    return detail::scope_access::visible_deadline(me);
}

} // namespace creel
