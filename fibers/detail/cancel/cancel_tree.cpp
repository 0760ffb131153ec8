// The tree of cancel scopes: what a wait sees of it, and how a cancel spreads through it.
//
// Sight. A fiber that waits has a count of uncaught exceptions. The wait obeys scopes from the
// innermost one outwards:
//   1  Of the scopes that the fiber itself entered, it obeys those that were entered at that count.
//      So a wait in a destructor, during unwinding, obeys only what the destructor has entered.
//   2  Outside the outermost of them lies the scope of the fiber's nursery, which another fiber
//      entered. The wait obeys it only if the fiber is not unwinding: the count must be 0, with
//      which the fiber began. From there on the count is that of the nursery's opener, at the time
//      it entered the scope.
//   3  A shielded scope is the last in sight.
//
// So what lies in sight of a scope, at the count it was entered at, depends only on the scope
// itself and on what is in sight of its parent. Each scope keeps the outcome (`sight`,
// `sight_level`): the outermost of the scopes whose cancel has come furthest. look() brings one
// scope up to date from its parent. A wait asks its innermost scope only, whatever the depth.
//
// Spreading. There is one work list of scopes. Each scope on it has a mark that says what is to be
// done with it, and the mark also keeps a scope from being on the list twice:
//   look_at_it    its own level has changed (a token cancels it): look at it, and if its sight has
//                 changed, look below it
//   look_beneath  it has been looked at, and its sight has changed: look below it
// Below a scope lie the scopes that its fiber entered later and, if it is the scope of a nursery,
// the fibers of the nursery's children. Where a scope turns out unchanged, nothing below it changes
// either, and the walk turns back.
//
// Cost. A cancel costs what it touches, if outer scopes are looked at before inner ones: the inner
// ones then turn out unchanged. So the list is first in first out, a token keeps its scopes in the
// order in which they were entered, and of several deadlines that have passed together the
// outermost goes first.
//
// The end. What is in sight of a scope is a function of its own state and of what is in sight of
// its parent. So one pass over the tree settles it, unless a token makes the level of a scope rise;
// and each level can rise twice. A spread needs no stack, however deep scopes, nurseries and chains
// of tokens are, because the caller may be a fiber. It runs no user code: tokens are told under
// their mutex, and withdrawals only unlink or mark.
#include <creel/fibers/detail/cancel/cancel_tree.hpp>

#include <creel/fibers/detail/cancel/standing_reason.hpp>
#include <creel/fibers/detail/cancel/token.hpp>
#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/nursery/remote_entry.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>

namespace creel::detail {

namespace {

// True if a wait that obeys `scope` obeys its parent, too: rules 1 and 2 above.
bool is_in_sight_of(const scope_core& scope, const scope_core& parent) noexcept {
    return scope.entry_count == (parent.owner == scope.owner ? parent.entry_count : 0);
}

} // namespace

// ---- what a wait sees ---------------------------------------------------------------------------

bool sees_innermost(const parker& p) noexcept {
    return scheduler::uncaught_exceptions_of(p) ==
           (p.scope->owner == &p ? p.scope->entry_count : 0);
}

scope_core* visible_cancel(const parker& p) noexcept {
    return may_be_cancelled(p) && sees_innermost(p) ? p.scope->sight : nullptr;
}

cancel_request scope_core::request_in_sight() const noexcept {
    if (sight == nullptr)
        return {};
    const time_point at = sight->own.requested_at;
    return {sight->own.reason, at, sight_level,
            sight_level == cancel_level::asked ? sight_takes_effect : at};
}

std::shared_ptr<const cancel_reason> scope_core::reason_in_sight() const noexcept {
    if (sight != nullptr && sight->own.reason != nullptr)
        return sight->own.reason;
    return own.reason != nullptr ? own.reason : unknown_reason();
}

bool reaches(const scope_core& outer, const scope_core& inner) noexcept {
    for (const scope_core* s = &inner; s != &outer; s = s->parent)
        if (s->parent == nullptr || s->shielded || !is_in_sight_of(*s, *s->parent))
            return false;
    return true;
}

bool would_see(const parker& p, const scope_core& outer) noexcept {
    return p.scope != nullptr && sees_innermost(p) && reaches(outer, *p.scope);
}

// Deadlines move too often to be kept in each scope, and are seldom asked for. So this walks.
time_point visible_deadline(const parker& p) noexcept {
    time_point earliest = time_point::max();
    if (p.scope == nullptr || !sees_innermost(p))
        return earliest;
    for (const scope_core* s = p.scope;;) {
        earliest = std::min(earliest, s->own.level == cancel_level::cancelled ? time_point::min()
                                                                              : s->next_event());
        const scope_core* outside = s->parent;
        if (outside == nullptr && !s->shielded && p.home == nullptr)
            return std::min(earliest, static_cast<const thread_parker&>(p).caller_deadline);
        if (outside == nullptr || s->shielded || !is_in_sight_of(*s, *outside))
            return earliest;
        s = outside;
    }
}

// ---- how a change spreads -----------------------------------------------------------------------

void spread_work::add(scope_core& scope, std::uint8_t what) noexcept {
    if (scope.to_spread == 0) {
        scope.next_to_spread = nullptr;
        (first_ != nullptr ? last_->next_to_spread : first_) = &scope;
        last_ = &scope;
    }
    scope.to_spread |= what;
}

void spread_work::add_first(scope_core& scope) noexcept {
    scope.next_to_spread = first_;
    if (first_ == nullptr)
        last_ = &scope;
    first_ = &scope;
    scope.to_spread = look_at_it;
}

void spread_work::run() noexcept {
    while (scope_core* s = first_) {
        first_ = s->next_to_spread;
        const std::uint8_t what = s->to_spread;
        s->to_spread = 0;
        const bool changed = (what & look_at_it) != 0 && look(*s);
        if (changed || (what & look_beneath) != 0)
            look_below(*s);
    }
}

bool spread_work::look(scope_core& scope) noexcept {
    scope_core* sight = nullptr;
    cancel_level level = cancel_level::none;
    time_point takes_effect = time_point::max();
    if (const scope_core* p = scope.owner != nullptr ? scope.parent : nullptr;
        p != nullptr && !scope.shielded && is_in_sight_of(scope, *p)) {
        sight = p->sight;
        level = p->sight_level;
        takes_effect = p->sight_takes_effect;
    }
    if (scope.own.level > level) {
        sight = &scope;
        level = scope.own.level;
        takes_effect = level == cancel_level::asked ? scope.own.takes_effect : time_point::max();
    } else if (level == cancel_level::asked && scope.own.level == cancel_level::asked) {
        takes_effect = std::min(takes_effect, scope.own.takes_effect);
    }
    if (sight == scope.sight && level == scope.sight_level &&
        takes_effect == scope.sight_takes_effect)
        return false;
    scope.sight = sight;
    scope.sight_level = level;
    scope.sight_takes_effect = takes_effect;
    if (scope.links != nullptr && level != cancel_level::none) [[unlikely]]
        scope.tell_tokens(*this);
    return true;
}

// Nurseries among the scopes go on the list, for their children.
void spread_work::look_inwards(parker& p, scope_core* from) noexcept {
    for (scope_core* s = from; s != nullptr; s = s->inner) {
        if (!look(*s))
            return;
        if (s->nursery != nullptr)
            add(*s, look_beneath);
    }
    waiter* w = p.waiting_on;
    if (w != nullptr && p.home != nullptr && w->kind().cancellable && may_be_cancelled(p) &&
        sees_innermost(p))
        p.home->interrupt(*w, wake_reason::cancelled);
}

void spread_work::look_below(scope_core& scope) noexcept {
    if (scope.owner == nullptr)
        return; // it is not entered: there are only its tokens
    if (nursery_core* n = scope.nursery) {
        const bool cancelled = scope.sees_cancel();
        if (n->entry != nullptr)
            n->entry->refuse(cancelled);
        for (task_record* t = n->first_child; t != nullptr; t = t->next) {
            if (t->runner != nullptr)
                look_inwards(*t->runner, t->runner->outermost);
            else if (cancelled && t->in_line) [[unlikely]]
                n->opener->home->drop_from_line(*t);
        }
    }
    parker& owner = *scope.owner;
    if (owner.outermost == &scope && owner.home != nullptr)
        owner.home->look_at_natives(owner, *this);
    look_inwards(owner, scope.inner);
}

void scope_core::spread() noexcept {
    spread_work work;
    if (work.look(*this))
        work.look_below(*this);
    work.run();
}

void move_fiber(parker& p, scope_core& to) noexcept {
    if (p.outermost != nullptr)
        p.outermost->parent = &to;
    else
        p.scope = &to;
    spread_work work;
    work.look_inwards(p, p.outermost);
    work.run();
}

// ---- plain threads ------------------------------------------------------------------------------

namespace {

// The walk goes from the innermost scope outwards and puts each changed scope first on the list, so
// the outermost is looked at first. asks(link): true if the state of that token is to be read,
// under its lock.
template <typename Asks>
void look_at_own(parker& p, Asks asks) noexcept {
    spread_work work;
    const time_point earliest = earliest_event(p);
    const time_point t = earliest == time_point::max() ? time_point::min() : now();
    for (scope_core* s = p.scope; s != nullptr; s = s->parent) {
        bool changed = false;
        for (token_link* l = s->links; l != nullptr; l = l->next_of_scope)
            changed = (asks(*l) && s->take(l->state->current(*l))) || changed;
        if (s->next_event() <= t)
            changed = s->expire() || changed;
        if (changed)
            work.add_first(*s);
    }
    work.run();
}

} // namespace

void notice(parker& p) noexcept {
    look_at_own(p, [](token_link&) { return true; });
}

// Without the load, threads that share a token would meet at its mutex with every call.
void glance(parker& p) noexcept {
    look_at_own(p, [](token_link& l) {
        return l.state->level.load(std::memory_order_acquire) != cancel_level::none;
    });
}

time_point earliest_event(const parker& p) noexcept {
    time_point earliest = time_point::max();
    for (const scope_core* s = p.scope; s != nullptr; s = s->parent)
        if (s->own.level != cancel_level::cancelled)
            earliest = std::min(earliest, s->next_event());
    return earliest;
}

} // namespace creel::detail
