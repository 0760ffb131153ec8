#include <creel/fibers/detail/cancel/scope_core.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/cancel/audit.hpp>
#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/cancel/standing_reason.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <new>
#include <string>

namespace creel::detail {

namespace {
constinit standing_reason deadline_reason{cancel_cause::deadline, "the deadline has passed"};
const standing_reasons_made deadline_reason_is_made{deadline_reason};

void trace_cancel(const scope_core& s) noexcept {
    if (this_scheduler != nullptr && this_scheduler->recorder() != nullptr) [[unlikely]]
        this_scheduler->recorder()->cancels(s);
}

} // namespace

scope_core::~scope_core() {
    if (owner != nullptr) [[unlikely]]
        destroyed_inside();
    if (links != nullptr)
        drop_links();
}

void scope_core::destroyed_inside() const noexcept {
    std::string text = "a cancel_scope was destroyed while its run() goes on";
    try {
        text = "a cancel_scope was destroyed while " + name_of(*owner) +
               " is inside its run(): declare it outside with_nursery, or join() the nursery "
               "before it goes";
    } catch (const std::bad_alloc&) { // the shorter text says it, too
    }
    assertion_failed("nobody is inside", text.c_str(), std::source_location::current());
}

// ---- entered, left ------------------------------------------------------------------------------

void scope_core::enter(duration span) {
    CREEL_ASSERT(!entered, "a cancel_scope is entered once; make a new one for each run()");
    parker& me = this_parker();
    parent = me.scope;
    entry_count = scheduler::uncaught_exceptions_of(me);
    if (links != nullptr) [[unlikely]]
        enter_links(me); // a token may have been cancelled already; the timer is armed below
    owner = &me;
    if (own.level != cancel_level::cancelled && next_event() != time_point::max()) {
        try {
            arm(span);
        } catch (...) { // no memory for the timer; only tokens know of this scope yet
            owner = nullptr;
            enter_failed();
            throw;
        }
    }
    entered = true;
    me.scope = this;
    (me.outermost != nullptr ? parent->inner : me.outermost) = this;
    if (own.level != cancel_level::none ||
        (parent != nullptr && parent->sight_level != cancel_level::none)) [[unlikely]]
        spread();
    if (parent == nullptr && me.home != nullptr)
        me.home->outermost_changed(me);
}

void scope_core::leave() noexcept {
    parker& me = *owner;
    CREEL_ASSERT(me.scope == this,
                 "cancel scopes must be left in the reverse order of entering: run() them one "
                 "inside the other");
    if (timer_.armed())
        me.home->cancel(timer_);
    if (links != nullptr) [[unlikely]]
        drop_links();
    if (own.level != cancel_level::none) [[unlikely]] {
        if (me.thrown_for == this)
            me.thrown_for = nullptr; // absorbed, or replaced by another exception: not swallowed
        if (me.home != nullptr)      // a deadline may lie before the clock's beginning
            me.home->count_cancel(now() - std::max(own.requested_at, time_point{}));
    }
    me.scope = parent;
    (me.outermost != this ? parent->inner : me.outermost) = nullptr;
    if (parent == nullptr && me.home != nullptr)
        me.home->outermost_changed(me);
    owner = nullptr;
    if (sight != nullptr) [[unlikely]] { // it may be a scope that is about to be destroyed
        sight = own.level != cancel_level::none ? this : nullptr;
        sight_level = own.level;
    }
}

bool scope_core::leave_absorbing() noexcept {
    if (owner->home == nullptr)
        notice(*owner);
    // A shield hides the parent's cancel here as it did inside (Trio does the same).
    const bool absorbs = own.level == cancel_level::cancelled && sight == this;
    leave();
    return absorbs;
}

void scope_core::hang_under(scope_core* outer) noexcept {
    parent = outer;
    owner = outer != nullptr ? outer->owner : nullptr;
    entry_count = outer != nullptr ? outer->entry_count : 0;
}

// ---- its own cancel -----------------------------------------------------------------------------

void scope_core::arm(duration span) {
    timer_.scope = this;
    timer_.fire = fire_event;
    const bool is_fresh = span != duration{} && deadline <= own.takes_effect;
    const bool passed = is_fresh ? span < duration{} : next_event() <= now();
    if (passed)
        static_cast<void>(expire());
    else if (owner->home != nullptr)
        owner->home->arm(timer_, next_event(), is_fresh ? span : duration{});
}

bool scope_core::expire() noexcept {
    if (own.level == cancel_level::cancelled)
        return false;
    own.level = cancel_level::cancelled;
    if (own.reason == nullptr) {
        own.reason = deadline_reason.get();
        own.requested_at = deadline;
    }
    trace_cancel(*this);
    return true;
}

bool scope_core::take(const cancel_request& r) noexcept {
    if (!own.rise_to(r))
        return false;
    trace_cancel(*this);
    if (own.level == cancel_level::asked && owner != nullptr) {
        if (timer_.armed())
            owner->home->cancel(timer_);
        try {
            arm(duration{});
        } catch (const std::bad_alloc&) { // no memory for the timer: rather now than never
            own.level = cancel_level::cancelled;
        }
    }
    return true;
}

void scope_core::request(const cancel_request& r) noexcept {
    if (take(r))
        spread();
}

// Timers of scopes inside each other may be due together, the inner ones first: the outermost scope
// whose time has passed is cancelled before them, and they then change nothing.
void scope_core::fire_event(timer& fired) noexcept {
    scope_core& scope = *static_cast<event_timer&>(fired).scope;
    if (!scope.sees_cancel() && scope.parent != nullptr) {
        const time_point t = now();
        scope_core* outermost = nullptr;
        for (scope_core* s = scope.parent; s != nullptr; s = s->parent)
            if (s->own.level != cancel_level::cancelled && s->next_event() <= t)
                outermost = s;
        if (outermost != nullptr && outermost->expire())
            outermost->spread();
    }
    if (scope.expire())
        scope.spread();
}

void scope_core::set_deadline(time_point next) {
    require_own_thread("the deadline of a cancel_scope is moved on the thread that entered it; "
                       "elsewhere, cancel its token()");
    if (own.level == cancel_level::cancelled || (entered && owner == nullptr))
        return;
    const time_point t = now();
    const time_point due = std::min(next, own.takes_effect);
    // First of all, for that may fail. Should the deadline stay, it fires once too often.
    if (owner != nullptr && owner->home != nullptr && due > t) {
        timer_.scope = this;
        timer_.fire = fire_event;
        if (due != time_point::max())
            owner->home->rearm(timer_, due);
        else
            owner->home->cancel(timer_);
    }
    const bool had_passed =
        (deadline != time_point::max() && deadline <= t) || !set_token_deadline(next);
    if (!had_passed)
        deadline = next;
    if ((had_passed || (owner != nullptr && due <= t)) && expire())
        spread();
}

void scope_core::set_shielded(bool is_shielded) {
    if (shielded == is_shielded)
        return;
    require_own_thread("a cancel_scope is shielded on the thread that entered it: call "
                       "set_shielded() there");
    shielded = is_shielded;
    if (owner != nullptr)
        spread();
}

bool scope_core::cancel_called() const noexcept {
    const bool left = entered && owner == nullptr; // what had passed then was noted
    return own.level != cancel_level::none ||
           (!left && deadline != time_point::max() && deadline <= now());
}

// The token says so, too.
void scope_core::note_passed_deadline() noexcept {
    if (own.level == cancel_level::none && deadline != time_point::max() && deadline <= now())
        static_cast<void>(expire());
}

void scope_core::require_own_thread(const char* rule) const {
    const bool is_own =
        owner == nullptr ||
        (owner->home != nullptr ? owner->home == this_scheduler : owner == &this_thread_parker());
    CREEL_ASSERT(is_own, rule);
}

} // namespace creel::detail
