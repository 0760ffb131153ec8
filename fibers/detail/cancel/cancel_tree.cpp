// The tree of cancel scopes: what a wait sees of it, and how a cancel spreads through it.
//
// Sight. A wait of a fiber that has `count` uncaught exceptions obeys, from its innermost scope
// outwards, the scopes that it entered at that count. Past its outermost scope lies the scope of
// its nursery, which another fiber entered: that is in sight only if the fiber is not unwinding (0
// is the count it began with), and from there on counts what the nursery's opener saw when it
// entered it. A shielded scope is the last in sight.
//
// So what lies in sight of a scope, at the count it was entered at, depends on nothing but the
// scope itself and what is in sight of its parent. Each scope keeps it (sight_, sight_level_): the
// outermost of the scopes whose cancel has come furthest. look() brings one scope up to date from
// its parent, and a wait asks its innermost scope only, whatever the depth.
//
// Spreading. One work list of scopes, each with a mark of what is to be done with it, which is also
// what keeps a scope from being on the list twice:
//   look_at_it  its own level has changed (a token cancels it): look at it, and if that is news,
//               below it
//   look_beneath it has been looked at and has changed: look below it
// Below a scope lie the scopes that its fiber entered later and, if it is a nursery's, the fibers
// of its children. Where a scope turns out unchanged, nothing below it changes either, and the walk
// turns back.
//
// A cancel costs what it touches, if outer scopes are looked at before the inner ones: these then
// turn out unchanged. So the list is first in first out, a token keeps its scopes in the order in
// which they were entered, and of deadlines that have passed together the outermost goes first.
//
// It ends: what is in sight of a scope is a function of its own state and of what is in sight of
// its parent, so one pass over the tree settles it, unless a token makes a scope's own level rise;
// and each can rise twice. It needs no stack, however deep scopes, nurseries and chains of tokens
// are, for the caller may be a fiber. It runs no user code: tokens are told under their mutex,
// withdrawals only unlink or mark.
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/cancel/token.hpp>
#include <creel/fibers/detail/nursery/remote_entry.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>

namespace creel::detail {

namespace {

constexpr std::uint8_t look_at_it = 1;
constexpr std::uint8_t look_beneath = 2;

} // namespace

// ---- what a wait sees ---------------------------------------------------------------------------

bool scope_access::sees_innermost(const parker& who) noexcept {
    const cancel_scope& innermost = *who.scope;
    return uncaught_exceptions_of(who) == (innermost.owner_ == &who ? innermost.entry_count_ : 0);
}

cancel_scope* scope_access::visible_cancel(const parker& who) noexcept {
    return may_be_cancelled(who) && sees_innermost(who) ? who.scope->sight_ : nullptr;
}

cancel_request scope_access::request_of(const cancel_scope& scope) noexcept {
    const cancel_scope* s = scope.sight_;
    if (s == nullptr)
        return {};
    return {scope.sight_level_, s->reason_, s->requested_at_,
            scope.sight_level_ == cancel_level::asked ? scope.sight_takes_effect_
                                                      : s->requested_at_};
}

// Deadlines move too often to be kept in each scope, and are seldom asked for: this one walks.
time_point scope_access::visible_deadline(const parker& who) noexcept {
    time_point earliest = time_point::max();
    if (who.scope == nullptr || !sees_innermost(who))
        return earliest;
    for (const cancel_scope* s = who.scope;;) {
        earliest = std::min(earliest, s->own_ == cancel_level::cancelled ? time_point::min()
                                                                         : s->next_event());
        const cancel_scope* outside = s->parent_;
        if (outside == nullptr && !s->shielded_ && who.home == nullptr)
            return std::min(earliest, static_cast<const thread_parker&>(who).caller_deadline);
        if (outside == nullptr || s->shielded_ || !is_in_sight_of(*s, *outside))
            return earliest;
        s = outside;
    }
}

// ---- how a cancel spreads -----------------------------------------------------------------------

bool scope_access::is_in_sight_of(const cancel_scope& scope, const cancel_scope& parent) noexcept {
    return scope.entry_count_ == (parent.owner_ == scope.owner_ ? parent.entry_count_ : 0);
}

void scope_access::add(cancel_scope& scope, std::uint8_t what, spread_work& work) noexcept {
    if (scope.to_spread_ == 0) {
        scope.next_to_spread_ = nullptr;
        (work.first != nullptr ? work.last->next_to_spread_ : work.first) = &scope;
        work.last = &scope;
    }
    scope.to_spread_ |= what;
}

// One that is on no list, before all that are.
void scope_access::add_first(cancel_scope& scope, spread_work& work) noexcept {
    scope.next_to_spread_ = work.first;
    if (work.first == nullptr)
        work.last = &scope;
    work.first = &scope;
    scope.to_spread_ = look_at_it;
}

void scope_access::add_changed(cancel_scope& scope, spread_work& work) noexcept {
    add(scope, look_at_it, work);
}

// Brings what is in sight of the scope up to date; true if that has changed. Then its own token is
// told, and the caller looks below it.
bool scope_access::look(cancel_scope& scope, spread_work& work) noexcept {
    cancel_scope* sight = nullptr;
    cancel_level level = cancel_level::none;
    time_point takes_effect = time_point::max();
    if (const cancel_scope* p = scope.owner_ != nullptr ? scope.parent_ : nullptr;
        p != nullptr && !scope.shielded_ && is_in_sight_of(scope, *p)) {
        sight = p->sight_;
        level = p->sight_level_;
        takes_effect = p->sight_takes_effect_;
    }
    if (scope.own_ > level) {
        sight = &scope;
        level = scope.own_;
        takes_effect = level == cancel_level::asked ? scope.takes_effect_ : time_point::max();
    } else if (level == cancel_level::asked && scope.own_ == cancel_level::asked) {
        takes_effect = std::min(takes_effect, scope.takes_effect_);
    }
    if (sight == scope.sight_ && level == scope.sight_level_ &&
        takes_effect == scope.sight_takes_effect_)
        return false;
    scope.sight_ = sight;
    scope.sight_level_ = level;
    scope.sight_takes_effect_ = takes_effect;
    if (scope.links_ != nullptr && level != cancel_level::none) [[unlikely]]
        tell_tokens(scope, work);
    return true;
}

// The scopes that this fiber has entered, from one of them on inwards (null: none), and then its
// wait. Nurseries among them are put on the list, for their children.
void scope_access::look_inwards(parker& who, cancel_scope* from, spread_work& work) noexcept {
    for (cancel_scope* s = from; s != nullptr; s = s->inner_) {
        if (!look(*s, work))
            return;
        if (s->nursery_ != nullptr)
            add(*s, look_beneath, work);
    }
    waiter* w = who.waiting_on;
    if (w != nullptr && who.home != nullptr && w->kind().cancellable &&
        visible_cancel(who) != nullptr)
        who.home->interrupt(*w, wake_reason::cancelled);
}

void scope_access::look_below(cancel_scope& scope, spread_work& work) noexcept {
    if (scope.owner_ == nullptr)
        return; // it is not entered: there are only its tokens
    if (nursery_core* n = scope.nursery_) {
        const bool cancelled = sees_cancel(scope);
        if (n->entry != nullptr)
            n->entry->refuse(cancelled);
        for (task_record* t = n->first_child; t != nullptr; t = t->next) {
            if (t->runner != nullptr)
                look_inwards(*t->runner, t->runner->outermost, work);
            else if (cancelled && t->in_line) [[unlikely]]
                n->opener->home->drop_from_line(*t);
        }
    }
    parker& owner = *scope.owner_;
    if (owner.outermost == &scope && owner.home != nullptr)
        owner.home->look_at_natives(owner, work);
    look_inwards(owner, scope.inner_, work);
}

void scope_access::spread(spread_work& work) noexcept {
    while (cancel_scope* s = work.first) {
        work.first = s->next_to_spread_;
        const std::uint8_t what = s->to_spread_;
        s->to_spread_ = 0;
        const bool changed = (what & look_at_it) != 0 && look(*s, work);
        if (changed || (what & look_beneath) != 0)
            look_below(*s, work);
    }
}

void scope_access::spread(cancel_scope& scope) noexcept {
    spread_work work;
    add_changed(scope, work);
    spread(work);
}

void scope_access::move_fiber(parker& who, cancel_scope& to) noexcept {
    if (who.outermost != nullptr)
        who.outermost->parent_ = &to;
    else
        who.scope = &to;
    spread_work work;
    look_inwards(who, who.outermost, work);
    spread(work);
}

void scope_access::hang(cancel_scope& scope, cancel_scope* parent) noexcept {
    scope.parent_ = parent;
    scope.owner_ = parent != nullptr ? parent->owner_ : nullptr;
    scope.entry_count_ = parent != nullptr ? parent->entry_count_ : 0;
}

// Timers of scopes inside each other may be due together, the inner ones first: the outermost scope
// whose time has passed is cancelled before them, and they then change nothing.
void scope_access::fire_deadline(timer& fired) noexcept {
    cancel_scope& scope = *static_cast<cancel_scope::deadline_timer&>(fired).scope;
    if (!sees_cancel(scope) && scope.parent_ != nullptr) {
        const time_point t = now();
        cancel_scope* outermost = nullptr;
        for (cancel_scope* s = scope.parent_; s != nullptr; s = s->parent_)
            if (s->own_ != cancel_level::cancelled && s->next_event() <= t)
                outermost = s;
        if (outermost != nullptr && outermost->expire())
            spread(*outermost);
    }
    if (scope.expire())
        spread(scope);
}

// ---- plain threads ------------------------------------------------------------------------------

void scope_access::notice(parker& who) noexcept {
    look_at_own(who, [](token_link&) { return true; });
}

// Threads that share a token would meet at its mutex with every call otherwise.
void scope_access::glance(parker& who) noexcept {
    look_at_own(who, [](token_link& l) {
        return l.state->level.load(std::memory_order_acquire) != cancel_level::none;
    });
}

// What has changed is listed from the innermost scope outwards, so the outermost is looked at
// first.
template <typename Asks>
void scope_access::look_at_own(parker& who, Asks asks) noexcept {
    spread_work work;
    const time_point earliest = earliest_event(who);
    const time_point t = earliest == time_point::max() ? time_point::min() : now();
    for (cancel_scope* s = who.scope; s != nullptr; s = s->parent_) {
        bool changed = false;
        for (token_link* l = s->links_; l != nullptr; l = l->next_of_scope)
            changed = (asks(*l) && s->take(l->state->current(*l))) || changed;
        if (s->next_event() <= t)
            changed = s->expire() || changed;
        if (changed)
            add_first(*s, work);
    }
    spread(work);
}

time_point scope_access::earliest_event(const parker& who) noexcept {
    time_point earliest = time_point::max();
    for (const cancel_scope* s = who.scope; s != nullptr; s = s->parent_)
        if (s->own_ != cancel_level::cancelled)
            earliest = std::min(earliest, s->next_event());
    return earliest;
}

} // namespace creel::detail
