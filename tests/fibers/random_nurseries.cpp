// The nurseries of a random program, and their children.
#include "random_program_body.hpp"

#include "support/at_exit.hpp"

#include <creel/fibers/nursery.hpp>
#include <creel/fibers/task.hpp>

#include <algorithm>
#include <exception>

using namespace std::chrono_literals;

namespace creel::test {

// ---- children -----------------------------------------------------------------------------------

group& random_program::body::open_group(actor& me, std::string_view what) {
    group& n = groups_.emplace_back();
    n.number = groups_.size() - 1;
    n.what = what;
    n.scope = &model_.add_scope();
    model_.enter(me.fiber, *n.scope);
    say(me, n.what + " #" + std::to_string(n.number) + ", " + name_of(*n.scope) + " {");
    return n;
}

void random_program::body::close_group(actor& me, group& n) {
    std::erase_if(scopes_, [&](const real_scope& r) { return r.model == n.scope; });
    n.open = false;
    model_.leave(*n.scope);
    say(me, "} " + n.what + " #" + std::to_string(n.number));
}

group* random_program::body::some_nursery(actor& me) {
    return me.in_sight.empty() ? nullptr : me.random.one_of(me.in_sight);
}

child& random_program::body::add_child(numbers& random, int depth, group& parent,
                                       std::vector<group*> in_sight) {
    child& c = children_.emplace_back();
    c.number = static_cast<int>(children_.size());
    c.parent = &parent;
    c.seed = random.seed();
    c.depth = depth + 1;
    // A child that waits for a place among its own siblings would wait for ever.
    std::erase_if(in_sight, [](const group* g) { return g->limited; });
    c.in_sight = std::move(in_sight);
    parent.children.push_back(&c);
    return c;
}

// The child sees its parent, and the nurseries around that.
child& random_program::body::add_child(actor& me, group& parent) {
    const auto place = std::find(me.in_sight.begin(), me.in_sight.end(), &parent);
    return add_child(me.random, me.depth, parent,
                     {me.in_sight.begin(), place == me.in_sight.end() ? place : place + 1});
}

// A child does not start in a cancelled nursery.
int random_program::body::run_child(child& c, pending_set* ready) {
    model_.look();
    check(model_.visible_to_children(*c.parent->scope) != verdict::yes,
          "no child starts in a cancelled nursery");
    check(!c.started && std::uncaught_exceptions() == 0, "a child starts once, and anew");
    c.started = true;
    actor me = make_actor("c" + std::to_string(c.number), c.parent->scope, c.seed, c.depth);
    me.in_sight = c.in_sight;
    c.fiber = &me.fiber;
    std::vector<held_task> tasks;
    me.tasks = &tasks;
    model_scope* own = nullptr; // start() gives its child a scope, whose token cancels it alone
    if (ready != nullptr) {
        own = &model_.add_scope();
        model_.enter(me.fiber, *own);
        me.ready = ready;
        if (me.random.chance(30))
            set_started(me);
    }
    const auto end = [&](outcome how) {
        model_.look();
        if (own != nullptr) {
            if (how.is_cancelled() && model_.cancelled_itself(*own) == verdict::yes &&
                model_.visible_outside(*own) == verdict::no)
                how = {};
            model_.leave(*own);
        }
        c.how = how;
        const verdict v = model_.visible_to_children(*c.parent->scope);
        c.by_cancel = how.is_cancelled() && v == verdict::yes;
        c.astray = how.is_cancelled() && v != verdict::yes;
        c.has_ended = true;
        if (c.getter != nullptr)
            model_.decide(*c.getter);
        say(me, "ends: " + to_string(how));
        note_end(*c.parent, how, true);
        if (how.is_value() && c.parent->is_race && c.parent->winner == nullptr) {
            did(feature::race_won);
            c.parent->winner = &c;
            c.parent->errors.clear();
            model_.cancel(*c.parent->scope);
        }
    };
    try {
        block(me);
        if (ready != nullptr && me.random.chance(60))
            set_started(me);
    } catch (...) {
        end(caught());
        throw;
    }
    end({});
    return c.number;
}

// Notes the effect on a nursery when a member of it ends: a child or the body.
void random_program::body::note_end(group& n, const outcome& how, bool is_child) {
    model_.look();
    if (how.is_value())
        return;
    if (how.is_cancelled()) {
        n.cancelled_seen = true;
        if (model_.visible_to_children(*n.scope) != verdict::yes) {
            n.uncertain = true; // an error, if nothing is in sight: a shield was raised meanwhile
            n.scope->astray = true;
        }
        return;
    }
    if (is_child && n.policy == kind_of_policy::report) {
        n.to_report.insert(how.errors.begin(), how.errors.end());
        return;
    }
    n.errors.insert(how.errors.begin(), how.errors.end());
    if (n.policy != kind_of_policy::collect)
        model_.cancel(*n.scope);
}

// A child is dropped only by a cancel.
void random_program::body::closure_gone(child& c) {
    ++c.closures_gone;
    must(c.closures_gone == 1, "a closure is destroyed once");
    if (c.started || shared_ != nullptr)
        return;
    model_.look();
    c.dropped = c.parent->open && model_.visible_to_children(*c.parent->scope) != verdict::no;
    if (!c.is_child)
        return;
    did(feature::child_dropped);
    check(model_.visible_to_children(*c.parent->scope) != verdict::no,
          "a child is dropped only if its nursery is cancelled");
    if (c.getter != nullptr)
        model_.decide(*c.getter);
}

void random_program::body::report(group& n, const std::exception_ptr& error) {
    did(feature::report_handled);
    try {
        std::rethrow_exception(error);
    } catch (...) {
        const outcome o = caught();
        n.reported.insert(o.errors.begin(), o.errors.end());
        n.uncertain = n.uncertain || o.is_cancelled();
    }
    actor me = make_actor("handler of #" + std::to_string(n.number), n.scope,
                          static_cast<std::uint32_t>(actors_), 1);
    try {
        if (me.random.chance(50))
            sleep(me);
    } catch (...) { // it counts as a child that ended so
        note_end(n, caught(), true);
        throw;
    }
}

// ---- nurseries ----------------------------------------------------------------------------------

void random_program::body::open_nursery(actor& me) {
    group& n = open_group(me, "nursery");
    nursery_options options;
    switch (me.random.below(4)) {
    case 0:
        did(feature::nursery_that_collects);
        n.policy = kind_of_policy::collect;
        options.on_error = collect();
        break;
    case 1:
        did(feature::nursery_that_reports);
        n.policy = kind_of_policy::report;
        options.on_error = creel::report(
            [this, &n](const std::exception_ptr& e, const task_info&) { report(n, e); });
        break;
    default:
        did(feature::nursery_that_cancels);
    }
    if (me.random.chance(20)) {
        did(feature::limited_nursery);
        n.limited = true;
        options.max_children = static_cast<std::size_t>(1 + me.random.below(2));
    }
    if (me.fiber.count != 0)
        did(feature::nursery_in_destructor);
    if (me.is_native)
        did(feature::nursery_in_native);
    std::vector<held_task> tasks; // which outlive it
    std::vector<held_task>* const outer_tasks = std::exchange(me.tasks, &tasks);
    const at_exit restored{[&] { me.tasks = outer_tasks; }};
    bool returned = false;
    const auto members = [&](nursery& real) {
        n.real = &real;
        scopes_.push_back({n.scope, &real.scope()});
        me.in_sight.push_back(&n);
        const at_exit out_of_sight{[&] { me.in_sight.pop_back(); }};
        if (shared_ != nullptr) {
            const std::lock_guard lock{shared_->mutex};
            if (shared_->entries.size() < 200)
                shared_->entries.push_back({real.remote(), this, &n});
        }
        try {
            for (int i = me.random.below(4); i > 0; --i)
                spawn_somehow(me);
            block(me);
        } catch (...) {
            note_end(n, caught(), false);
            throw;
        }
        returned = true;
    };
    const bool with_value = me.random.chance(25);
    outcome got;
    std::exception_ptr error;
    try {
        if (with_value) {
            did(feature::nursery_with_value);
            const int value = with_nursery(options, [&](nursery& real) {
                members(real);
                return 7;
            });
            check(returned && value == 7, "a nursery gives the value of its body");
        } else {
            with_nursery(options, members);
        }
    } catch (...) {
        got = caught();
        error = std::current_exception();
    }
    model_.look();
    check_nursery(n, got, with_value, returned);
    close_group(me, n);
    if (error != nullptr)
        std::rethrow_exception(error);
    while (!tasks.empty() && me.random.chance(50)) {
        held_task t = std::move(tasks.back());
        tasks.pop_back();
        get(me, t, feature::get_after_nursery);
    }
}

// A nursery ends after its children. It throws their errors and that of its body, each once; if
// there is none, but a member ended with `cancelled` or never ran, then it absorbs that if it was
// cancelled itself, and throws `cancelled` if the cancel came from outside.
void random_program::body::check_nursery(const group& n, const outcome& got, bool with_value,
                                         bool returned) {
    bool cancelled_seen = n.cancelled_seen;
    for (const child* c : n.children) {
        check(c->has_ended || !c->started, "a nursery ends after its children");
        check(c->closures_gone == (c->has_closure ? 1 : 0), "a child's closure is destroyed");
        cancelled_seen = cancelled_seen || (c->is_child && !c->started);
    }
    if (n.uncertain)
        return;
    check(n.reported == n.to_report, "each error of a child is reported once");
    if (got.is_group)
        did(feature::group_thrown);
    if (!n.errors.empty()) {
        check(got.errors == n.errors, "a nursery throws the errors of its members, each once");
        return;
    }
    if (!cancelled_seen) {
        check(got.is_value(), "a nursery whose members have all succeeded returns");
        return;
    }
    const verdict own = model_.cancelled_itself(*n.scope);
    const verdict outside = model_.visible_outside(*n.scope);
    if (got.is_cancelled()) {
        did(feature::nursery_passed_on);
        check(own != verdict::yes || outside != verdict::no,
              "a nursery absorbs its own cancel if none is in sight outside");
        return;
    }
    did(feature::nursery_absorbed);
    check(own != verdict::no && outside != verdict::yes,
          "a nursery that a cancel from outside has cut short throws `cancelled`");
    check(with_value && !returned ? got.is_new_kind(ended::task_cancelled) : got.is_value(),
          "one that absorbs returns, or throws task_cancelled if it has no value to give");
}

void random_program::body::spawn_somehow(actor& me) {
    switch (me.random.below(4)) {
    case 0:
        return async(me);
    case 1:
        return start(me);
    default:
        return spawn(me);
    }
}

void random_program::body::spawn(actor& me) {
    group* n = some_nursery(me);
    if (n == nullptr)
        return;
    did(feature::spawn);
    child& c = add_child(me, *n);
    say(me, "spawn c" + std::to_string(c.number) + " into #" + std::to_string(n->number));
    model_.look();
    const verdict v = model_.visible_to_children(*n->scope);
    auto closure = [this, t = ticket{*this, c}] { run_child(*t.of); };
    if (n->limited) {
        try {
            wait(
                me, feature::spawn, "spawn", already, [&] { n->real->spawn(std::move(closure)); },
                false);
        } catch (const cancelled&) {
            c.is_child = false;
            throw;
        }
        return;
    }
    n->real->spawn(std::move(closure));
    if (v == verdict::yes)
        did(feature::child_refused);
    check(v != verdict::yes || c.closures_gone == 1,
          "a cancelled nursery destroys what is spawned into it at once");
    check(v != verdict::no || c.closures_gone == 0, "a nursery takes what is spawned into it");
}

void random_program::body::async(actor& me) {
    group* n = some_nursery(me);
    if (n == nullptr || me.tasks == nullptr)
        return;
    did(feature::async);
    child& c = add_child(me, *n);
    say(me, "async c" + std::to_string(c.number) + " into #" + std::to_string(n->number));
    auto closure = [this, t = ticket{*this, c}] { return run_child(*t.of); };
    try {
        me.tasks->push_back({n->real->async(std::move(closure)), &c});
    } catch (const cancelled&) { // while it waited for a place
        c.is_child = false;
        throw;
    }
}

void random_program::body::get(actor& me) {
    if (me.tasks == nullptr || me.tasks->empty())
        return;
    held_task t = std::move(me.tasks->back());
    me.tasks->pop_back();
    get(me, t, feature::get);
}

// get() gives the value of the child, its error, or task_cancelled if a cancel ended or dropped it.
void random_program::body::get(actor& me, held_task& t, feature f) {
    child& c = *t.of;
    outcome got;
    std::exception_ptr error;
    int value = 0;
    const bool decided = c.has_ended || c.closures_gone != 0;
    c.getter = &me.fiber;
    const at_exit no_longer{[&] { c.getter = nullptr; }};
    wait(me, f, "get c" + std::to_string(c.number), decided ? already : time_point::max(), [&] {
        try {
            value = t.handle.get();
        } catch (const cancelled&) { // the waiter's own, or perhaps the child's
            if (!c.astray || model_.visible(me.fiber) == verdict::yes)
                throw;
        } catch (...) {
            got = caught();
            error = std::current_exception();
        }
    });
    if (c.astray)
        return;
    if (!c.started || c.by_cancel)
        check(got.is_new_kind(ended::task_cancelled),
              "get() of a child that a cancel has ended or dropped throws task_cancelled");
    else if (c.how.is_value())
        check(got.is_value() && value == c.number, "get() gives the child's value");
    else
        check(got.errors == c.how.errors, "get() throws the child's error");
    say(me, "got c" + std::to_string(c.number) + ": " + to_string(got));
    if (error != nullptr && me.random.chance(50))
        std::rethrow_exception(error);
}

} // namespace creel::test
