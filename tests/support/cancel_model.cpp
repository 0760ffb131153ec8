#include "support/cancel_model.hpp"

namespace creel::test {

namespace {
verdict either(bool certain, bool perhaps) {
    return certain ? verdict::yes : perhaps ? verdict::perhaps : verdict::no;
}
} // namespace

// ---- the questions ------------------------------------------------------------------------------

model_scope* cancel_model::parent(const model_scope& s) {
    return s.outer != nullptr ? s.outer : s.owner->base;
}

// The scopes of one fiber that are in sight are those that were entered at the count of uncaught
// exceptions at which the wait looks. Outside of its outermost scope are the scopes in which its
// nursery was opened: they are in sight of a fiber that does not unwind, as far as they were in
// sight of the opener when it opened the nursery. A shield ends the sight.
template <typename See>
void cancel_model::walk(const model_fiber& f, const model_scope* from, int count, See see) {
    const model_fiber* fiber = &f;
    for (const model_scope* s = from; s != nullptr; s = parent(*s)) {
        if (s->owner != fiber) {
            if (count != 0)
                return;
            fiber = s->owner;
            count = s->entry_count;
        }
        if (s->entry_count != count || see(*s) || s->shielded)
            return;
    }
}

verdict cancel_model::seen(const model_fiber& f, const model_scope* from, int count) {
    verdict found = verdict::no;
    walk(f, from, count, [&](const model_scope& s) {
        found = std::max(found, cancelled_itself(s));
        return found == verdict::yes;
    });
    return found;
}

verdict cancel_model::cancelled_itself(const model_scope& s) {
    return either(s.cancelled, s.perhaps || s.astray);
}

verdict cancel_model::visible(const model_fiber& f) const {
    return seen(f, innermost(f), f.count);
}

verdict cancel_model::visible_to_children(const model_scope& nursery) const {
    return seen(*nursery.owner, &nursery, nursery.entry_count);
}

verdict cancel_model::visible_outside(const model_scope& s) const {
    return s.shielded ? verdict::no : seen(*s.owner, parent(s), s.entry_count);
}

verdict cancel_model::cancel_called(const model_scope& s) const {
    return either(s.asked || s.cancelled || s.passed || (!s.left && s.deadline <= outside_.now()),
                  s.perhaps || s.astray);
}

verdict cancel_model::cancelled(const model_token& t) const {
    const bool passed = t.deadline <= outside_.now();
    return either(t.asked || t.cancelled || passed, t.perhaps);
}

time_point cancel_model::deadline(const model_fiber& f, bool& certain) const {
    time_point earliest = time_point::max();
    walk(f, innermost(f), f.count, [&](const model_scope& s) {
        certain = certain && (s.cancelled || (!s.perhaps && !s.astray)) &&
                  s.perhaps_grace_end == time_point::max();
        earliest = std::min(earliest, s.cancelled ? time_point::min() : event(s));
        return false;
    });
    return earliest;
}

// ---- what the program does ----------------------------------------------------------------------

model_fiber& cancel_model::add_fiber(model_scope* base) {
    model_fiber& f = fibers_.emplace_back();
    f.base = base;
    return f;
}

model_scope& cancel_model::add_scope() {
    model_scope& s = scopes_.emplace_back();
    s.number = static_cast<int>(scopes_.size());
    return s;
}

model_token& cancel_model::add_token() {
    model_token& t = tokens_.emplace_back();
    t.number = static_cast<int>(tokens_.size());
    return t;
}

model_token& cancel_model::token_of(model_scope& s) {
    look();
    if (s.token == nullptr) {
        s.token = &add_token();
        s.token->scope = &s;
        s.token->deadline = s.deadline;
        if (s.passed)
            s.token->asked = true;
        spread(outside_.now());
    }
    return *s.token;
}

void cancel_model::enter(model_fiber& f, model_scope& s) {
    look();
    s.owner = &f;
    s.outer = f.innermost;
    s.entry_count = f.count;
    f.innermost = &s;
    for (const model_token* t : s.bound) {
        s.perhaps_grace_end = std::min(s.perhaps_grace_end, t->perhaps_grace_end);
        if (t->asked)
            take(s, t->cancelled, t->grace_end);
    }
    arm(s);
    spread(outside_.now());
    look();
}

void cancel_model::leave(model_scope& s) {
    look();
    s.passed = s.passed || s.deadline <= outside_.now();
    if (s.token != nullptr && s.deadline > outside_.now())
        s.token->deadline = time_point::max();
    s.owner->innermost = s.outer;
    s.left = true;
}

void cancel_model::cancel(model_scope& s, duration grace) {
    look();
    if (s.cancelled)
        return;
    s.by_hand = s.by_hand || cancel_called(s) == verdict::no;
    s.cause_open = s.cause_open || (!s.by_hand && !s.cancelled);
    take(s, grace <= duration{}, outside_.now() + grace);
    spread(outside_.now());
}

void cancel_model::cancel(model_token& t, duration grace) {
    look();
    t.asked = true;
    if (grace <= duration{})
        t.cancelled = true;
    else
        t.grace_end = std::min(t.grace_end, outside_.now() + grace);
    if (t.scope != nullptr && !t.scope->left)
        cancel(*t.scope, grace);
    for (model_scope& s : scopes_)
        if (active(s) && std::count(s.bound.begin(), s.bound.end(), &t) != 0)
            take(s, t.cancelled, t.grace_end);
    spread(outside_.now());
}

// A later cancel counts only if its level is higher or it takes effect sooner.
void cancel_model::take(model_scope& s, bool now, time_point grace_end) {
    if (s.cancelled || (s.asked && !now && grace_end >= s.grace_end))
        return;
    s.asked = true;
    s.cancelled = now;
    s.grace_end = std::min(s.grace_end, grace_end);
    arm(s);
}

// A deadline that has passed cancels at once when it is set, and not when the scheduler next looks.
void cancel_model::arm(model_scope& s) {
    if (s.owner != nullptr && !s.left && event(s) <= outside_.now())
        s.cancelled = true;
}

// A deadline that has passed counts even if it is moved afterwards, whether it was noticed or not.
void cancel_model::set_deadline(model_scope& s, time_point deadline) {
    look();
    if (s.deadline <= outside_.now() && !s.cancelled) {
        s.passed = s.astray = true;
        if (s.token != nullptr)
            s.token->asked = true;
    }
    s.deadline = deadline;
    if (s.token != nullptr)
        s.token->deadline = std::min(deadline, s.passed ? outside_.now() : deadline);
    arm(s);
    spread(outside_.now());
    look();
}

void cancel_model::set_shielded(model_scope& s, bool shielded) {
    look();
    s.shielded = shielded;
    spread(outside_.now());
}

void cancel_model::move(model_fiber& f, model_scope& base) {
    look();
    f.base = &base;
    spread(outside_.now());
}

void cancel_model::compute(duration d) {
    look();
    jumps_.emplace_back(looked_until(), outside_.now() + d);
    looks_at_jump_ = outside_.polls() + outside_.waits();
    outside_.advance(d);
    look();
}

void cancel_model::begin_wait(model_fiber& f, time_point decided) {
    f.waiting = true;
    f.decided = decided;
    f.must_throw = f.saw_cancel = false;
    waiting_.push_back(&f);
}

void cancel_model::decide(model_fiber& f) {
    f.decided = std::min(f.decided, outside_.now());
}

void cancel_model::end_wait(model_fiber& f) {
    f.waiting = false;
    std::erase(waiting_, &f);
}

// ---- how a cancel spreads -----------------------------------------------------------------------

time_point cancel_model::looked_until() const {
    const bool looked = outside_.polls() + outside_.waits() != looks_at_jump_;
    return looked ? outside_.now() : jumps_.back().first;
}

// When fibers compute one after the other without a look in between, a deadline that passes is
// noticed at the end of all of them at the earliest.
time_point cancel_model::noticed(time_point t) const {
    time_point end = t;
    for (const auto& [from, to] : jumps_)
        if (from < t && t <= to)
            end = std::max(end, to);
    return end;
}

void cancel_model::look() {
    const time_point until = looked_until();
    for (;;) {
        model_scope* next = nullptr;
        for (model_scope& s : scopes_)
            if (active(s) && !s.cancelled && event(s) <= until &&
                (next == nullptr || event(s) < event(*next)))
                next = &s;
        if (next == nullptr)
            break;
        next->cancelled = true;
        spread(noticed(event(*next)));
    }
    const time_point t = outside_.now();
    for (model_scope& s : scopes_)
        s.perhaps = s.cancelled || (active(s) && std::min(event(s), s.perhaps_grace_end) <= t);
    for (model_token& k : tokens_) // a cancelled token stays cancelled
        k.perhaps = k.perhaps || k.cancelled;
    for (bool changed = true; changed;) {
        changed = false;
        for (model_token& k : tokens_)
            if (!k.perhaps && k.scope != nullptr && active(*k.scope) &&
                visible_to_children(*k.scope) != verdict::no)
                changed = k.perhaps = true;
        for (model_scope& s : scopes_)
            if (!s.perhaps && active(s) &&
                std::any_of(s.bound.begin(), s.bound.end(), [](auto* k) { return k->perhaps; }))
                changed = s.perhaps = true;
    }
    interrupt_waits(t);
}

// Spreads cancels through the tokens until nothing changes: the token of a scope has the state that
// its scope sees, and the scopes bound to a token take its state as their own.
void cancel_model::spread(time_point when) {
    for (bool changed = true; changed;) {
        changed = false;
        for (model_token& t : tokens_) {
            if (t.scope == nullptr || !active(*t.scope))
                continue;
            time_point& grace_end = t.perhaps_grace_end;
            bool asked = false;
            bool cancelled = false;
            walk(*t.scope->owner, t.scope, t.scope->entry_count, [&](const model_scope& s) {
                asked = asked || s.asked || s.cancelled;
                cancelled = cancelled || s.cancelled;
                grace_end = std::min({grace_end, s.grace_end, s.perhaps_grace_end});
                return false;
            });
            if ((cancelled && !t.cancelled) || (asked && !t.asked))
                changed = true;
            t.asked = t.asked || asked;
            t.cancelled = t.cancelled || cancelled;
            for (model_scope& s : scopes_)
                if (active(s) && std::count(s.bound.begin(), s.bound.end(), &t) != 0)
                    s.perhaps_grace_end = std::min(s.perhaps_grace_end, t.perhaps_grace_end);
        }
        for (model_scope& s : scopes_)
            if (active(s) && !s.cancelled)
                for (const model_token* t : s.bound)
                    if (!s.cancelled && (t->cancelled || (t->asked && !s.asked))) {
                        take(s, t->cancelled, t->grace_end);
                        changed = true;
                    }
    }
    interrupt_waits(when);
}

void cancel_model::interrupt_waits(time_point when) {
    for (model_fiber* f : waiting_) {
        const verdict v = visible(*f);
        f->saw_cancel = f->saw_cancel || v != verdict::no;
        f->must_throw = f->must_throw || (v == verdict::yes && noticed(f->decided) > when);
    }
}

} // namespace creel::test
