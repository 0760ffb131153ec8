// The scopes and tokens of a random program.
#include "random_program_body.hpp"

#include "support/at_exit.hpp"

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>

using namespace std::chrono_literals;

namespace creel::test {

// ---- scopes -------------------------------------------------------------------------------------

// A scope passes on the value or the error of the function that runs in it. `cancelled` stops at
// the scope if the scope itself is cancelled and no cancel is in sight outside; else it passes.
void random_program::body::enter_scope(actor& me, model_scope& s, const std::string& what,
                                       const run_in_scope& run) {
    say(me, what + ", " + name_of(s) + " {");
    if (me.fiber.count != 0)
        did(feature::scope_in_destructor);
    model_.enter(me.fiber, s);
    outcome inside;
    auto inside_it = [&](creel::cancel_scope& real) {
        scopes_.push_back({&s, &real});
        const at_exit gone{
            [&] { std::erase_if(scopes_, [&](const auto& r) { return r.model == &s; }); }};
        try {
            block(me);
        } catch (...) {
            inside = caught();
            throw;
        }
    };
    outcome got;
    bool absorbed = false;
    std::exception_ptr error;
    try {
        absorbed = !run(inside_it);
    } catch (...) {
        got = caught();
        error = std::current_exception();
    }
    // For fail_after: the first reason.
    if (got.is_new_kind(ended::timed_out) || got.is_new_kind(ended::task_cancelled)) {
        absorbed = true;
        if (got.kind == ended::timed_out)
            did(feature::timed_out);
        check(s.by_hand == (got.kind == ended::task_cancelled) || s.cause_open || s.astray,
              "timed_out if the deadline was first, task_cancelled if a cancel by hand");
    }
    model_.look();
    const verdict own = model_.cancelled_itself(s);
    const verdict outside = model_.visible_outside(s);
    model_.leave(s);
    say(me, "} " + name_of(s) + ": " + (absorbed ? "absorbed" : to_string(got)));
    if (!inside.is_cancelled()) {
        check(!absorbed && got == inside, "a scope gives the value or the error of what it runs");
    } else if (absorbed) {
        did(feature::scope_absorbed);
        check(own != verdict::no && outside != verdict::yes,
              "a scope absorbs `cancelled` only if it is the outermost one cancelled");
    } else {
        did(feature::scope_passed_on);
        check(got.is_cancelled(), "`cancelled` passes as it is, or is absorbed");
        check(own != verdict::yes || outside != verdict::no,
              "the outermost cancelled scope absorbs `cancelled`");
    }
    if (error != nullptr && (!absorbed || me.random.chance(50)))
        std::rethrow_exception(error);
}

void random_program::body::run_scope(actor& me) {
    did(feature::scope);
    model_scope& s = model_.add_scope();
    s.deadline = me.random.chance(30) ? now() + me.random.moment() : time_point::max();
    creel::cancel_scope real{s.deadline};
    if (me.random.chance(15)) {
        model_.set_shielded(s, true);
        real.set_shielded(true);
    }
    if (me.random.chance(15)) {
        model_token& t = model_.token_of(s);
        say(me, "token of " + name_of(s) + " before it is entered: " + name_of(t));
        know(t, real.token());
    }
    if (me.random.chance(10)) {
        did(feature::scope_cancelled_before);
        const duration grace = me.random.moment();
        model_.cancel(s, grace);
        real.cancel("before it was entered", grace);
    }
    const at_exit asked{[&] { check_called(s, real); }};
    enter_scope(me, s,
                s.deadline == time_point::max()
                    ? "scope"
                    : "scope until " + in_ms(s.deadline - time_point{1000h}),
                [&](inside_scope inside) { return real.run(inside); });
}

void random_program::body::move_on(actor& me) {
    model_scope& s = model_.add_scope();
    const duration d = me.random.moment();
    s.deadline = now() + d;
    if (me.random.chance(50)) {
        did(feature::move_on_after);
        enter_scope(me, s, "move_on_after " + in_ms(d),
                    [&](inside_scope inside) { return creel::move_on_after(d, inside); });
    } else {
        did(feature::move_on_at);
        enter_scope(me, s, "move_on_at " + in_ms(s.deadline - time_point{1000h}),
                    [&](inside_scope inside) { return creel::move_on_at(s.deadline, inside); });
    }
}

void random_program::body::fail_after(actor& me) {
    did(feature::fail_after);
    model_scope& s = model_.add_scope();
    const duration d = me.random.moment();
    s.deadline = now() + d;
    enter_scope(me, s, "fail_after " + in_ms(d), [&](inside_scope inside) {
        creel::fail_after(d, inside);
        return true;
    });
}

// shield() returns nothing for a void function, and so does not tell that it has absorbed a cancel.
void random_program::body::run_shielded(actor& me) {
    did(feature::shield);
    model_scope& s = model_.add_scope();
    s.shielded = true;
    enter_scope(me, s, "shield", [&](inside_scope inside) {
        bool returned = false;
        creel::shield([&](creel::cancel_scope& real) {
            inside(real);
            returned = true;
        });
        return returned;
    });
}

void random_program::body::stop_token(actor& me) {
    did(feature::with_stop_token);
    model_scope& s = model_.add_scope();
    std::stop_source source;
    model_token& token = model_.token_of(s);
    stops_.emplace_back(source, &token);
    if (me.random.chance(20)) {
        model_.cancel(token, duration{});
        source.request_stop();
    }
    enter_scope(me, s, "with_stop_token", [&](inside_scope inside) {
        return creel::with_stop_token(source.get_token(), inside);
    });
}

// Seldom chooses the outermost scope: with its cancel the program ends.
real_scope* random_program::body::some_scope(actor& me) {
    if (scopes_.empty())
        return nullptr;
    real_scope& r = me.random.one_of(scopes_);
    return r.model == root_ && !me.random.chance(5) ? nullptr : &r;
}

void random_program::body::cancel_somebody(actor& me) {
    real_scope* r = some_scope(me);
    if (r == nullptr)
        return;
    const duration grace = me.random.chance(35) ? me.random.moment() : duration{};
    did(grace > duration{} ? feature::cancel_with_grace : feature::cancel_scope);
    say(me, "cancel " + name_of(*r->model) + ", grace " + in_ms(grace));
    model_.cancel(*r->model, grace);
    r->scope->cancel("by " + me.name, grace);
    check_called(*r->model, *r->scope);
}

void random_program::body::set_deadline(actor& me) {
    real_scope* r = some_scope(me);
    if (r == nullptr || r->model == root_)
        return;
    did(feature::set_deadline);
    const time_point deadline =
        me.random.chance(20) ? time_point::max() : now() + me.random.moment() - 1ms;
    say(me, "deadline of " + name_of(*r->model) + ": " +
                (deadline == time_point::max() ? "none" : in_ms(deadline - time_point{1000h})));
    model_.set_deadline(*r->model, deadline);
    r->scope->set_deadline(deadline);
    check_called(*r->model, *r->scope);
}

void random_program::body::toggle_shield(actor& me) {
    real_scope* r = some_scope(me);
    if (r == nullptr)
        return;
    did(feature::toggle_shield);
    const bool shielded = !r->scope->shielded();
    // The body of a map may just have been cancelled in its wait for a place, and throws although
    // the cancel is out of sight now. Then that counts as an error of the map.
    for (group& n : groups_)
        if (shielded && n.open && n.what == "map") {
            n.uncertain = true;
            n.scope->astray = true;
        }
    say(me, (shielded ? "raise the shield of " : "lower the shield of ") + name_of(*r->model));
    model_.set_shielded(*r->model, shielded);
    r->scope->set_shielded(shielded);
}

void random_program::body::ask_scope(actor& me) {
    if (real_scope* r = some_scope(me)) {
        did(feature::ask_scope);
        check_called(*r->model, *r->scope);
    }
}

void random_program::body::check_called(const model_scope& s, const creel::cancel_scope& real) {
    model_.look();
    const verdict said = model_.cancel_called(s);
    const bool called = real.cancel_called();
    check(called ? said != verdict::no : said != verdict::yes,
          called ? "cancel_called() is true only of the scope's own cancel, and its deadline"
                 : "cancel_called() tells of the scope's own cancel, and of its deadline");
    must(called || !told_of_cancel_.contains(&s), "cancel_called() stays true");
    if (called)
        told_of_cancel_.insert(&s);
}

void random_program::body::ask_deadline(actor& me) {
    did(feature::ask_deadline);
    model_.look();
    bool certain = true;
    const time_point said = model_.deadline(me.fiber, certain);
    check(!certain || current_deadline() == said,
          "current_deadline() is the earliest in sight, and min in a cancelled scope");
}

// ---- tokens -------------------------------------------------------------------------------------

void random_program::body::know(model_token& model, const creel::cancel_token& token) {
    const auto known = std::find_if(tokens_.begin(), tokens_.end(),
                                    [&](const known_token& k) { return k.model == &model; });
    if (known == tokens_.end())
        tokens_.push_back({&model, token});
    else
        check(known->token == token, "a scope has one token");
}

known_token* random_program::body::some_token(actor& me) {
    return tokens_.empty() ? nullptr : &me.random.one_of(tokens_);
}

void random_program::body::take_token(actor& me) {
    if (me.random.chance(50)) {
        did(feature::current_token);
        model_scope& s = *cancel_model::innermost(me.fiber);
        // A scope that a wait here does not obey gives no token of its own.
        const bool in_sight =
            std::uncaught_exceptions() == (s.owner == &me.fiber ? s.entry_count : 0);
        model_token& t = in_sight ? model_.token_of(s) : model_.add_token();
        say(me, "current_token of " + name_of(s) + (in_sight ? "" : ", out of sight") + ": " +
                    name_of(t));
        know(t, current_token());
    } else if (real_scope* r = some_scope(me)) {
        did(feature::token_of_scope);
        model_token& t = model_.token_of(*r->model);
        say(me, "token of " + name_of(*r->model) + ": " + name_of(t));
        know(t, r->scope->token());
    }
}

void random_program::body::make_token(actor& me) {
    did(feature::free_token);
    model_token& t = model_.add_token();
    say(me, "a token of no scope: " + name_of(t));
    know(t, creel::cancel_token{});
}

void random_program::body::run_token(actor& me) {
    known_token* t = some_token(me);
    if (t == nullptr)
        return;
    did(feature::token_run);
    if (std::find(me.running.begin(), me.running.end(), t->model) != me.running.end())
        did(feature::token_run_in_itself);
    me.running.push_back(t->model);
    const at_exit done{[&] { me.running.pop_back(); }};
    model_scope& s = model_.add_scope();
    model_.bind(s, *t->model);
    enter_scope(me, s, "run of " + name_of(*t->model),
                [&](inside_scope inside) { return t->token.run(inside); });
}

void random_program::body::cancel_token(actor& me) {
    known_token* t = some_token(me);
    if (t == nullptr || (t->model->scope == root_ && !me.random.chance(5)))
        return;
    const duration grace = me.random.chance(35) ? me.random.moment() : duration{};
    did(grace > duration{} ? feature::cancel_token_with_grace : feature::cancel_token);
    say(me, "cancel " + name_of(*t->model) + ", grace " + in_ms(grace));
    model_.cancel(*t->model, grace);
    t->token.cancel("by " + me.name, grace);
    t->told = true;
    must(t->token.cancelled(), "a token that was cancelled says so");
}

void random_program::body::request_stop(actor& me) {
    if (stops_.empty())
        return;
    auto& [source, token] = me.random.one_of(stops_);
    say(me, "request_stop of " + name_of(*token));
    if (!token->scope->left) // else no scope sees it
        model_.cancel(*token, duration{});
    source.request_stop();
}

void random_program::body::ask_token(actor& me) {
    known_token* t = some_token(me);
    if (t == nullptr)
        return;
    did(feature::ask_token);
    model_.look();
    const verdict said = model_.cancelled(*t->model);
    const bool is = t->token.cancelled();
    say(me, name_of(*t->model) + (is ? " is" : " is not") + " cancelled");
    check(is ? said != verdict::no : said != verdict::yes,
          "a token is cancelled with its scope, and by hand");
    must(is || !t->told, "a token once cancelled stays so");
    t->told = is;
}

} // namespace creel::test
