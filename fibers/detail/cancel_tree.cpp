// The walks over the tree of scopes: what a wait sees of it, and how a cancel spreads through it.
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/remote_entry.hpp>
#include <creel/fibers/detail/scheduler.hpp>
#include <creel/fibers/detail/token.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>

namespace creel::detail {

namespace {

// The destructor rule. `count` is what the scopes of one fiber must have been entered at to be
// obeyed. Within a fiber entry counts only grow inwards, so the first that differs ends the walk.
// Past the fiber's outermost scope lies its nursery, opened by another fiber: it is in sight only
// if this fiber is not unwinding (0 is the count it began with), and then as far as the opener saw
// when it opened it. A shield ends the walk behind the scope that has it.
//
// Calls see(scope) for each scope in sight, from the innermost on.
template <typename See>
void walk(const parker& who, cancel_scope* innermost, int count, See see) noexcept {
    const parker* owner = &who;
    for (cancel_scope* s = innermost; s != nullptr; s = scope_access::parent(*s)) {
        if (scope_access::owner(*s) != owner) {
            if (count != 0)
                break;
            owner = scope_access::owner(*s);
            count = scope_access::entry_count(*s);
        }
        if (scope_access::entry_count(*s) != count)
            break;
        see(*s);
        if (s->shielded())
            break;
    }
}

} // namespace

cancel_scope* scope_access::visible_cancel(const parker& who) noexcept {
    if (!may_be_cancelled(who))
        return nullptr;
    return visible_cancel(who, who.scope, uncaught_exceptions_of(who));
}

cancel_scope* scope_access::visible_cancel(const parker& who, cancel_scope* innermost,
                                           int count) noexcept {
    cancel_scope* found = nullptr;
    walk(who, innermost, count, [&](cancel_scope& s) {
        if (s.own_ == cancel_level::cancelled)
            found = &s;
    });
    return found;
}

time_point scope_access::visible_deadline(const parker& who) noexcept {
    time_point earliest = time_point::max();
    walk(who, who.scope, uncaught_exceptions_of(who), [&](const cancel_scope& s) {
        earliest = std::min(earliest,
                            s.own_ == cancel_level::cancelled ? time_point::min() : s.next_event());
    });
    return earliest;
}

// Brings one fiber's scopes up to date, from `from` (null: its outermost) inwards, and interrupts
// its wait if that now sees a cancel. Nurseries and tokens whose state changed are put on the work
// list.
void scope_access::update_chain(parker& who, const cancel_scope* from, const cancel_scope* changed,
                                spread_work& work) noexcept {
    cancel_scope* outermost = nullptr;
    for (cancel_scope* s = who.scope; s != nullptr && s->owner_ == &who; s = s->parent_) {
        s->inner_ = outermost;
        outermost = s;
        if (s == from)
            break;
    }
    for (cancel_scope* s = outermost; s != nullptr; s = s->inner_) {
        cancel_level effective = s->own_;
        if (s->parent_ != nullptr && !s->shielded_)
            effective = std::max(effective, s->parent_->effective_);
        // One that was effective already may only now be in sight (the destructor rule), so only
        // what is not cancelled at all ends the walk.
        if (effective == cancel_level::none && s->effective_ == cancel_level::none && s != changed)
            break;
        s->effective_ = effective;
        if (s->links_ != nullptr && effective != cancel_level::none) [[unlikely]]
            tell_tokens(*s, work);
        if (s->nursery_ != nullptr) {
            s->nursery_->next_to_spread = work.nurseries;
            work.nurseries = s->nursery_;
        }
    }
    waiter* w = who.waiting_on;
    if (w != nullptr && who.home != nullptr && w->kind().cancellable &&
        visible_cancel(who) != nullptr)
        who.home->interrupt(*w, wake_reason::cancelled);
}

void scope_access::spread(cancel_scope& scope) noexcept {
    spread_work work;
    update_chain(*scope.owner_, &scope, &scope, work);
    if (scope.owner_->home != nullptr)
        scope.owner_->home->update_natives(work);
    spread(work);
}

// Iterative, so that neither deep scopes, nor deep nurseries, nor chains of tokens need stack: the
// caller may be a fiber. Runs no user code; withdrawals only unlink or mark.
void scope_access::spread(spread_work& work) noexcept {
    for (;;) {
        if (token_link* link = work.links) {
            work.links = link->next_to_take;
            link->to_take = false;
            cancel_scope& s = *link->scope;
            if (!s.take(link->state->current(*link)))
                continue;
            update_chain(*s.owner_, &s, &s, work);
            if (s.owner_->home != nullptr)
                s.owner_->home->update_natives(work);
        } else if (nursery_core* n = work.nurseries) {
            work.nurseries = n->next_to_spread;
            if (n->entry != nullptr)
                n->entry->refuse(n->cancelled_for_children());
            for (task* t = n->first_child; t != nullptr; t = t->next)
                if (t->runner != nullptr)
                    update_chain(*t->runner, nullptr, nullptr, work);
        } else {
            return;
        }
    }
}

void scope_access::move_fiber(parker& who, const cancel_scope& from, cancel_scope& to) noexcept {
    cancel_scope** link = &who.scope;
    while (*link != &from)
        link = &(*link)->parent_;
    *link = &to;
    spread_work work;
    update_chain(who, nullptr, nullptr, work);
    spread(work);
}

void scope_access::fire_deadline(timer& fired) noexcept {
    static_cast<cancel_scope::deadline_timer&>(fired).scope->expire();
}

void scope_access::notice(parker& who) noexcept {
    spread_work work;
    for (cancel_scope* s = who.scope; s != nullptr; s = s->parent_)
        for (token_link* l = s->links_; l != nullptr; l = l->next_of_scope)
            work.add(*l);
    spread(work);
    const time_point earliest = earliest_event(who);
    if (earliest == time_point::max())
        return;
    const time_point t = now();
    if (t < earliest)
        return;
    for (cancel_scope* s = who.scope; s != nullptr; s = s->parent_)
        if (s->next_event() <= t)
            s->expire();
}

time_point scope_access::earliest_event(const parker& who) noexcept {
    time_point earliest = time_point::max();
    for (const cancel_scope* s = who.scope; s != nullptr; s = s->parent_)
        if (s->own_ != cancel_level::cancelled)
            earliest = std::min(earliest, s->next_event());
    return earliest;
}

cancel_request scope_access::request_of(const cancel_scope& scope) noexcept {
    const cancel_scope* found = &scope;
    const auto see = [&found](const cancel_scope& s) {
        if (s.own_ >= found->own_)
            found = &s;
    };
    if (scope.owner_ != nullptr)
        walk(*scope.owner_, const_cast<cancel_scope*>(&scope), scope.entry_count_, see);
    if (found->own_ == cancel_level::none)
        return {};
    return {found->own_, found->reason_, found->requested_at_,
            found->own_ == cancel_level::asked ? found->takes_effect_ : found->requested_at_};
}

} // namespace creel::detail
