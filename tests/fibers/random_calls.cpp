// The calls of a random program beside nurseries: start, all, race, map, Boost fibers, handles.
#include "random_program_body.hpp"

#include "support/at_exit.hpp"
#include "support/sanitizers.hpp"

#include <creel/fibers/all.hpp>
#include <creel/fibers/map.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/race.hpp>
#include <creel/fibers/remote_nursery.hpp>
#include <creel/fibers/started.hpp>

#include <algorithm>
#include <optional>

using namespace std::chrono_literals;

namespace creel::test {

// ---- start --------------------------------------------------------------------------------------

void random_program::body::start(actor& me) {
    group* target = some_nursery(me);
    if (target == nullptr)
        return;
    did(feature::start);
    model_.look();
    const verdict caller_before = model_.visible(me.fiber);
    const verdict target_before = model_.visible_to_children(*target->scope);
    group& own = open_group(me, "start into #" + std::to_string(target->number));
    child& c = add_child(me, *target);
    target->children.pop_back();
    c.parent = &own;
    c.is_child = false; // not of the target until it moves
    outcome got;
    std::exception_ptr error;
    int value = 0;
    model_.begin_wait(me.fiber, already); // it may wait for a place, and sees a cancel then
    try {
        value = target->real->start<int>(
            [this, t = ticket{*this, c}, target, &own](started<int>& ready) {
                pending_set set{ready, *t.of, *target, own};
                return run_child(*t.of, &set);
            });
    } catch (...) {
        got = caught();
        error = std::current_exception();
    }
    model_.look();
    const bool saw_cancel = me.fiber.saw_cancel;
    model_.end_wait(me.fiber);
    const verdict own_cancel = model_.cancelled_itself(*own.scope);
    const verdict target_now = model_.visible_to_children(*target->scope);
    close_group(me, own);
    const verdict caller = model_.visible(me.fiber);
    say(me, "start: " + to_string(got));

    if (c.moved) {
        check(got.is_value() && value == c.number, "start() returns what was set");
    } else {
        check(c.closures_gone == 1, "a child that start() has not given away has gone");
        check(c.has_ended == c.started, "start() waits for a child that it has not given away");
        check(!got.is_value() || value == c.number, "start() returns what was set");
    }
    if (!c.moved && !c.started) {
        if (got.is_cancelled()) {
            check(caller_before != verdict::no || caller != verdict::no || saw_cancel || c.dropped,
                  "start() is cancelled only with its caller");
        } else {
            did(feature::start_refused);
            check(got.is_new_kind(ended::task_cancelled) && caller_before != verdict::yes &&
                      (target_before != verdict::no || target_now != verdict::no),
                  "start() into a cancelled nursery throws task_cancelled");
        }
    } else if (!c.moved && !c.astray && !own.uncertain) {
        if (!c.how.is_value() && !c.how.is_cancelled()) {
            did(feature::start_failed);
            check(got.errors == c.how.errors, "start() throws the error of its child");
        } else if (c.how.is_cancelled() && own_cancel == verdict::no) {
            check(got.is_cancelled(), "start() of a cancelled child is cancelled");
        } else if (c.how.is_value() && c.set_called) {
            check(got.is_value(), "start() returns what was set, also in a cancelled caller");
        } else if (c.how.is_value()) {
            did(feature::start_without_set);
            check(got.is_cancelled()
                      ? caller != verdict::no
                      : got.is_new_kind(ended::logic_error) && caller != verdict::yes,
                  "start() of a child that ends without set() is a logic_error");
        }
    }
    if (error != nullptr && (got.is_cancelled() || me.random.chance(40)))
        std::rethrow_exception(error);
}

// The child moves to the nursery, unless the caller of start() is cancelled.
void random_program::body::set_started(actor& me) {
    if (me.ready == nullptr || me.ready->of.set_called)
        return;
    pending_set& s = *me.ready;
    did(feature::set_started);
    model_.look();
    const verdict caller = model_.visible_to_children(*s.own.scope);
    const std::size_t before = s.target.real->children();
    s.of.set_called = true;
    s.ready.set(s.of.number);
    s.of.moved = s.target.real->children() > before;
    did(s.of.moved ? feature::child_moved : feature::child_stayed);
    say(me, s.of.moved ? "set, and moved" : "set, and stayed");
    check(s.of.moved ? caller != verdict::yes : caller != verdict::no,
          "a child moves with set(), unless the caller of start() is cancelled");
    if (!s.of.moved)
        return;
    s.of.parent = &s.target;
    s.of.is_child = true;
    s.target.children.push_back(&s.of);
    model_.move(me.fiber, *s.target.scope);
}

// ---- all, race, map -----------------------------------------------------------------------------

// They throw as a nursery does. all() and map() return if all have a value, race() if one has.
void random_program::body::together(actor& me, feature f, std::size_t members,
                                    const values_of& call) {
    did(f);
    group& n = open_group(me, name_of(f));
    n.is_race = f == feature::race;
    if (n.is_race)
        n.policy = kind_of_policy::collect;
    std::vector<child*> of;
    for (std::size_t i = 0; i < members; ++i) {
        of.push_back(&add_child(me, n));
        of.back()->in_sight = me.in_sight;
        std::erase_if(of.back()->in_sight, [](const group* g) { return g->limited; });
        of.back()->has_closure = false;
    }
    outcome got;
    std::exception_ptr error;
    std::vector<int> values;
    try {
        values = call(of);
    } catch (...) {
        got = caught();
        error = std::current_exception();
    }
    model_.look();
    const verdict own = model_.cancelled_itself(*n.scope);
    const verdict outside = model_.visible_outside(*n.scope);
    close_group(me, n);
    say(me, n.what + ": " + to_string(got));
    const auto has_value = [](const child* c) { return c->has_ended && c->how.is_value(); };
    bool cut_short = n.cancelled_seen;
    for (const child* c : of) {
        check(c->has_ended == c->started, "all, race and map end after their children");
        cut_short = cut_short || !c->started;
    }
    if (n.uncertain) {
    } else if (!n.errors.empty()) {
        check(got.errors == n.errors, "all, race and map throw the errors of their children");
    } else if (n.is_race ? n.winner != nullptr : std::all_of(of.begin(), of.end(), has_value)) {
        std::vector<int> expected;
        for (const child* c : of)
            if (!n.is_race || c == n.winner)
                expected.push_back(c->number);
        check(got.is_value() && values == expected, "all, race and map give what they are to");
    } else if (got.is_cancelled()) {
        check(cut_short || own != verdict::no || outside != verdict::no,
              "all, race and map are cancelled only with their caller");
    } else {
        check(got.is_new_kind(ended::task_cancelled) && own != verdict::no &&
                  outside != verdict::yes,
              "all, race and map throw task_cancelled only if they themselves were cancelled");
    }
    if (error != nullptr && (got.is_cancelled() || me.random.chance(50)))
        std::rethrow_exception(error);
}

void random_program::body::all(actor& me) {
    together(me, feature::all, 2, [&](const std::vector<child*>& of) {
        const auto [a, b] =
            creel::all([&] { return run_child(*of[0]); }, [&] { return run_child(*of[1]); });
        return std::vector{a, b};
    });
}

void random_program::body::race(actor& me) {
    together(me, feature::race, 3, [&](const std::vector<child*>& of) {
        return std::vector{creel::race([&] { return run_child(*of[0]); },
                                       [&] { return run_child(*of[1]); },
                                       [&] { return run_child(*of[2]); })};
    });
}

void random_program::body::map(actor& me) {
    const auto members = static_cast<std::size_t>(me.random.below(4));
    const auto limit = static_cast<std::size_t>(1 + me.random.below(2));
    together(me, feature::map, members, [&](const std::vector<child*>& of) {
        return creel::map(of, limit, [&](child* c) { return run_child(*c); });
    });
}

// ---- Boost fibers and other threads -------------------------------------------------------------

// It waits under the outermost scope of main, which lasts as long as the program.
void random_program::body::native(actor& me) {
    // Boost ends its own fibers in a way that leaves TSan's shadow stacks unbalanced, see
    // switch.cpp. After some hundreds of them TSan's runtime crashes.
    if (under_tsan)
        return;
    did(feature::native);
    const bool at_once = me.random.chance(50);
    if (at_once)
        did(feature::native_dispatched);
    std::vector<group*> in_sight = me.in_sight;
    std::erase_if(in_sight, [](const group* g) { return g->limited; });
    const std::string name = "b" + std::to_string(actors_);
    say(me, "Boost fiber " + name);
    me.natives->begin(at_once,
                      [this, name, in_sight, seed = me.random.seed(), depth = me.depth + 1] {
                          actor it = make_actor(name, root_, seed, depth);
                          it.in_sight = in_sight;
                          it.is_native = true;
                          std::vector<held_task> tasks;
                          it.tasks = &tasks;
                          try {
                              block(it);
                          } catch (...) {
                              say(it, "ends: " + to_string(caught()));
                          }
                      });
}

// A handle takes children until its nursery is cancelled or has ended, and never waits.
void random_program::body::spawn_remotely(actor& me) {
    if (shared_ != nullptr)
        return spawn_into_other_thread(me);
    group* n = some_nursery(me);
    if (n != nullptr && (remotes_.empty() || me.random.chance(30))) {
        static_cast<void>(model_.token_of(*n->scope)); // a handle has it
        remotes_.emplace_back(n, n->real->remote());
    }
    if (remotes_.empty())
        return;
    auto& [parent, handle] = me.random.one_of(remotes_);
    child& c = add_child(me.random, me.depth, *parent, {parent});
    c.is_child = false;
    model_.look();
    const verdict v = parent->open ? model_.visible_to_children(*parent->scope) : verdict::yes;
    const bool accepted = handle.spawn([this, t = ticket{*this, c}] { run_child(*t.of); });
    did(accepted ? feature::remote_spawn : feature::remote_refused);
    say(me, "spawn c" + std::to_string(c.number) + " remotely into #" +
                std::to_string(parent->number) + (accepted ? "" : ": refused"));
    c.is_child = accepted;
    check(accepted ? v != verdict::yes : v != verdict::no || parent->limited,
          "a handle refuses children if its nursery is cancelled, has ended or is full");
    check(c.closures_gone == (accepted ? 0 : 1), "a refused closure is destroyed at once");
}

void random_program::body::spawn_into_other_thread(actor& me) {
    struct counted {
        explicit counted(std::atomic<int>& c) : count(&c) { ++c; }
        counted(counted&& other) noexcept : count(std::exchange(other.count, nullptr)) {}
        ~counted() {
            if (count != nullptr)
                --*count;
        }
        std::atomic<int>* count;
    };
    std::optional<shared_by_programs::entry> to;
    {
        const std::lock_guard lock{shared_->mutex};
        if (shared_->entries.empty())
            return;
        to = me.random.one_of(shared_->entries);
    }
    static_cast<void>(to->nursery.spawn(
        [to = to->program, parent = to->parent, seed = me.random.seed(),
         one = counted{shared_->closures}] { to->run_for_other_thread(*parent, seed); }));
}

void random_program::body::run_for_other_thread(group& n, std::uint32_t seed) {
    numbers random{seed};
    child& c = add_child(random, 2, n, {&n});
    c.has_closure = false;
    run_child(c);
}

} // namespace creel::test
