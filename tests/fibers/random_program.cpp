// How a random program chooses its next call; its waits, errors and destructors.
#include "random_program_body.hpp"

#include "support/at_exit.hpp"

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/exception_group.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <sstream>
#include <stdexcept>

using namespace std::chrono_literals;

namespace creel::test {

namespace {
constexpr duration until_gates_open = 10s;
constexpr int deepest = 6;
} // namespace

// ---- the program and its listing ----------------------------------------------------------------

void random_program::body::run() {
    root_ = &model_.add_scope();
    if (shared_ != nullptr)
        for (const creel::cancel_token& t : shared_->tokens)
            tokens_.push_back({&model_.add_token(), t});
    outside_.after(until_gates_open, [this] {
        for (waited_gate& w : gates_) {
            w.open = true;
            for (model_fiber* f : w.waiting)
                model_.decide(*f);
            w.g.open();
        }
    });
    actor main = make_actor("main", nullptr, seed_, 0);
    std::vector<held_task> tasks;
    main.tasks = &tasks;
    creel::cancel_scope root;
    try {
        enter_scope(main, *root_, "root", [&](inside_scope inside) { return root.run(inside); });
    } catch (...) {
        check(!caught().is_cancelled(), "no cancel leaves the outermost scope");
    }
}

actor random_program::body::make_actor(std::string name, model_scope* base, std::uint32_t seed,
                                       int depth) {
    ++actors_;
    return {std::move(name), model_.add_fiber(base), numbers{seed}, depth};
}

void random_program::body::say(const actor& me, const std::string& what) {
    listing_ += in_ms(outside_.now() - time_point{1000h});
    listing_.append(static_cast<std::size_t>(2 * me.depth + 1), ' ');
    listing_ += me.name + ": " + what + '\n';
}

void random_program::body::must(bool holds, std::string_view rule) {
    if (holds)
        return;
    listing_ += "!!! does not hold: " + std::string{rule} + '\n';
    if (failure_.empty())
        failure_ = rule;
}

// Called in a handler. The library's own errors get a number too, because no other code has seen
// them yet.
outcome random_program::body::caught() {
    outcome o{.kind = ended::failed};
    try {
        throw;
    } catch (const cancelled&) {
        o.kind = ended::cancelled;
        return o;
    } catch (const exception_group& g) {
        for (const std::exception_ptr& e : g.errors())
            o.errors.insert(number_of(e, o.is_new));
        o.is_new = false;
        o.is_group = true;
        return o;
    } catch (const task_cancelled&) {
        o.kind = ended::task_cancelled;
    } catch (const timed_out&) {
        o.kind = ended::timed_out;
    } catch (const std::logic_error&) {
        o.kind = ended::logic_error;
    } catch (...) {
    }
    o.errors.insert(number_of(std::current_exception(), o.is_new));
    return o;
}

int random_program::body::number_of(const std::exception_ptr& error, bool& is_new) {
    const auto found = std::find(errors_.begin(), errors_.end(), error);
    const auto number = static_cast<int>(found - errors_.begin());
    is_new = found == errors_.end();
    if (is_new)
        errors_.push_back(error);
    return number;
}

// ---- waits --------------------------------------------------------------------------------------

// A wait throws if it finds a cancel in sight, or if a cancel comes before the event that it waits
// for. That event comes at `decided`; max if the time is not known. It throws for no other reason.
void random_program::body::wait(actor& me, feature f, const std::string& what, time_point decided,
                                test_body<> real, bool looks_first, bool looks_after) {
    did(f);
    say(me, what);
    model_.look();
    const verdict before = model_.visible(me.fiber);
    model_.begin_wait(me.fiber, decided);
    const at_exit no_longer{[&] { model_.end_wait(me.fiber); }};
    try {
        real();
    } catch (const cancelled&) {
        did(feature::wait_cancelled);
        say(me, what + ": cancelled");
        model_.look();
        check(before != verdict::no || me.fiber.saw_cancel ||
                  model_.visible(me.fiber) != verdict::no,
              "a wait throws `cancelled` only if a cancel is in sight");
        throw;
    }
    model_.look();
    check(!looks_first || before != verdict::yes, "a wait throws if a cancel is in sight");
    check(!me.fiber.must_throw, "a cancel ends a wait that nothing else has ended");
    check(!looks_after || model_.visible(me.fiber) != verdict::yes,
          "a yield looks for a cancel when it returns, too");
}

void random_program::body::yield(actor& me) {
    wait(
        me, feature::yield, "yield", already, [] { this_fiber::yield(); }, true, true);
}

void random_program::body::checkpoint(actor& me) {
    wait(
        me, feature::checkpoint, "checkpoint", already, [] { this_fiber::checkpoint(); }, true,
        true);
}

void random_program::body::sleep(actor& me) {
    const duration d = me.random.moment();
    const bool yields = d == duration{};
    wait(
        me, feature::sleep, "sleep " + in_ms(d), yields ? already : now() + d,
        [d] { this_fiber::sleep_for(d); }, true, yields);
}

void random_program::body::sleep_long(actor& me) {
    wait(me, feature::long_sleep, "sleep an hour", now() + 1h, [] { this_fiber::sleep_for(1h); });
}

void random_program::body::sleep_until(actor& me) {
    const time_point end = now() + me.random.moment();
    wait(me, feature::sleep_until, "sleep until " + in_ms(end - time_point{1000h}),
         end == now() ? already : end, [end] { this_fiber::sleep_until(end); });
}

void random_program::body::pass_gate(actor& me) {
    waited_gate& w = me.random.one_of(gates_);
    w.waiting.push_back(&me.fiber);
    const at_exit gone{[&] { std::erase(w.waiting, &me.fiber); }};
    wait(me, feature::gate, "pass gate " + std::to_string(&w - gates_.data()),
         w.open ? already : time_point::max(), [&] { w.g.pass(); });
}

// At an open gate it does not check for a cancel.
void random_program::body::pass_gate_with_timeout(actor& me) {
    waited_gate& w = me.random.one_of(gates_);
    const time_point until = now() + me.random.moment();
    w.waiting.push_back(&me.fiber);
    const at_exit gone{[&] { std::erase(w.waiting, &me.fiber); }};
    wait(
        me, feature::gate_with_timeout,
        "pass gate " + std::to_string(&w - gates_.data()) + " until " +
            in_ms(until - time_point{1000h}),
        w.open ? already : until, [&] { static_cast<void>(w.g.pass_until(until)); }, !w.open);
}

void random_program::body::open_gate(actor& me) {
    waited_gate& w = me.random.one_of(gates_);
    did(feature::open_gate);
    say(me, "open gate " + std::to_string(&w - gates_.data()));
    w.open = true;
    for (model_fiber* f : w.waiting)
        model_.decide(*f);
    w.g.open();
}

void random_program::body::let_one_pass(actor& me) {
    waited_gate& w = me.random.one_of(gates_);
    did(feature::let_one_pass);
    say(me, "let one pass gate " + std::to_string(&w - gates_.data()));
    for (model_fiber* f : w.waiting)
        model_.decide(*f); // which one it is does not matter
    static_cast<void>(w.g.let_one_pass());
}

void random_program::body::compute(actor& me) {
    const duration d = 1ms + me.random.moment();
    did(feature::compute);
    say(me, "compute for " + in_ms(d));
    model_.compute(d);
}

// ---- errors and destructors ---------------------------------------------------------------------

void random_program::body::throw_error(actor& me) {
    did(feature::error);
    say(me, "throw");
    throw std::runtime_error{"thrown by " + me.name};
}

// A wait inside a handler does not change the exception that the handler rethrows.
void random_program::body::catch_error(actor& me) {
    say(me, "try {");
    try {
        block(me);
    } catch (...) {
        const outcome o = caught();
        say(me, "} catch " + to_string(o));
        const int then = me.random.below(4);
        if (then == 0) {
            did(feature::swallow);
            return;
        }
        if (then == 1) {
            run_shielded(me);
        } else if (then == 2) {
            did(feature::wait_in_handler);
            block(me);
        }
        did(feature::rethrow);
        try {
            throw;
        } catch (...) {
            check(caught() == o, "what a handler rethrows is what it has caught");
            throw;
        }
    }
}

void random_program::body::destructor(actor& me) {
    did(feature::destructor);
    say(me, "an object whose destructor waits {");
    const at_exit object{[&] { unwind_into(me); }};
    block(me);
}

// The destructor lets nothing out.
void random_program::body::unwind_into(actor& me) {
    const int before = me.fiber.count;
    const int count = std::uncaught_exceptions();
    check(count == before || count == before + 1, "uncaught_exceptions() is the fiber's own");
    if (count != before)
        did(feature::destructor_that_unwinds);
    me.fiber.count = count;
    say(me, count != before ? "} destructor, unwinding {" : "} destructor {");
    try {
        block(me);
    } catch (...) {
        say(me, "swallows " + to_string(caught()));
    }
    say(me, "}");
    me.fiber.count = before;
}

// ---- what comes next ----------------------------------------------------------------------------

struct random_program::body::operation {
    int weight;
    bool nests;
    void (body::*call)(actor&);
};

const random_program::body::operation random_program::body::operations[] = {
    {6, false, &body::yield},
    {3, false, &body::checkpoint},
    {8, false, &body::sleep},
    {3, false, &body::sleep_long},
    {3, false, &body::sleep_until},
    {4, false, &body::pass_gate},
    {3, false, &body::pass_gate_with_timeout},
    {1, false, &body::open_gate},
    {3, false, &body::let_one_pass},
    {2, false, &body::compute},
    {4, false, &body::throw_error},
    {5, true, &body::catch_error},
    {6, true, &body::destructor},
    {6, true, &body::run_scope},
    {4, true, &body::move_on},
    {3, true, &body::fail_after},
    {3, true, &body::run_shielded},
    {2, true, &body::stop_token},
    {7, false, &body::cancel_somebody},
    {4, false, &body::set_deadline},
    {6, false, &body::toggle_shield},
    {3, false, &body::ask_scope},
    {3, false, &body::ask_deadline},
    {4, false, &body::take_token},
    {2, false, &body::make_token},
    {6, true, &body::run_token},
    {4, false, &body::cancel_token},
    {1, false, &body::request_stop},
    {4, false, &body::ask_token},
    {12, true, &body::open_nursery},
    {8, false, &body::spawn},
    {4, false, &body::async},
    {5, false, &body::get},
    {4, false, &body::start},
    {4, false, &body::set_started},
    {3, true, &body::all},
    {3, true, &body::race},
    {3, true, &body::map},
    {4, true, &body::native},
    {4, false, &body::spawn_remotely},
};

// An object on this fiber's stack keeps its Boost fibers alive. They may spawn where the fiber may.
void random_program::body::block(actor& me) {
    native_fibers natives;
    native_fibers* const outer = std::exchange(me.natives, &natives);
    ++me.depth;
    const at_exit back{[&] {
        --me.depth;
        me.natives = outer;
    }};
    if (&me.fiber == root_->owner && me.depth == 1)
        return main_block(me);
    for (int i = 1 + me.random.below(5); i > 0; --i)
        step(me);
}

// An error does not end the program.
void random_program::body::main_block(actor& me) {
    while (left_ > 0)
        try {
            step(me);
        } catch (const cancelled&) {
            throw;
        } catch (...) {
            say(me, "caught " + to_string(caught()));
        }
}

void random_program::body::step(actor& me) {
    if (--left_ < 0)
        return;
    check(std::uncaught_exceptions() == me.fiber.count, "uncaught_exceptions() is the fiber's own");
    static const int sum = [] {
        int weights = 0;
        for (const operation& o : operations)
            weights += o.weight;
        return weights;
    }();
    const operation* o = nullptr;
    do {
        int at = me.random.below(static_cast<std::size_t>(sum));
        for (o = operations; at >= o->weight; ++o)
            at -= o->weight;
    } while (o->nests && me.depth >= deepest);
    (this->*o->call)(me);
}

// ---- the outside --------------------------------------------------------------------------------

random_program::random_program(std::uint32_t seed, manual_poller& outside, feature_counts& done,
                               shared_by_programs* shared)
    : body_(std::make_unique<body>(seed, outside, done, shared)) {}
random_program::~random_program() = default;

void random_program::run() {
    body_->run();
}
const std::string& random_program::failure() const {
    return body_->failure();
}
const std::string& random_program::listing() const {
    return body_->listing();
}

#define CREEL_TEST_TEXT(...) #__VA_ARGS__
#define CREEL_TEST_TEXT_OF(...) CREEL_TEST_TEXT(__VA_ARGS__)

// The list as the preprocessor has it: "yield, checkpoint, ...".
std::string name_of(feature f) {
    std::istringstream names{CREEL_TEST_TEXT_OF(CREEL_TEST_FEATURES) ","};
    std::string name;
    for (auto i = static_cast<int>(f); i >= 0; --i)
        names >> name;
    name.pop_back(); // the comma
    return name;
}

std::shared_ptr<shared_by_programs> make_shared_by_programs() {
    return std::make_shared<shared_by_programs>();
}
int closures_alive(const shared_by_programs& shared) {
    return shared.closures.load();
}

} // namespace creel::test
