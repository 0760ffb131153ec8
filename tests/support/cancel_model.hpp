// A model of cancelling: its rules in the simplest form. Tests of random programs compare the
// library with it.
//
// The program keeps this tree beside the real calls: it tells the model each call, before or after
// it makes the call. Nothing is cached; each question walks the tree again. The time is that of the
// manual poller.
//
// The effect of a deadline is not certain until the scheduler has seen it: if a fiber computes
// while a deadline passes, the cancel comes when the scheduler next looks at its timers. So an
// answer is no, perhaps or yes, and a test checks only no and yes.
#pragma once

#include "support/manual_poller.hpp"

#include <creel/fibers/time.hpp>

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

namespace creel::test {

enum class verdict { no, perhaps, yes };

struct model_fiber;
struct model_token;

struct model_scope {
    int number = 0;               // for listings
    model_fiber* owner = nullptr; // the fiber that has entered it
    model_scope* outer = nullptr; // of the same fiber; null: the fiber's base is outside it
    int entry_count = 0;          // uncaught exceptions of the owner at entry
    bool shielded = false;
    bool left = false;
    time_point deadline = time_point::max();
    time_point grace_end = time_point::max();
    time_point perhaps_grace_end = time_point::max(); // of a cancel that came through a token
    bool asked = false;                               // cancel was called, perhaps with a grace
    bool passed = false;     // its deadline passed, noticed or not, before it was moved
    bool by_hand = false;    // cancel was called before any deadline had passed
    bool cause_open = false; // cancel was called when a deadline had passed unnoticed
    bool cancelled = false;  // by itself
    bool astray = false;     // an event that the model cannot know may have cancelled it
    bool perhaps = false;    // computed by look()
    model_token* token = nullptr;
    std::vector<model_token*> bound{}; // tokens that cancel it, without its own
};

struct model_token {
    int number = 0;               // for listings
    model_scope* scope = nullptr; // the scope that it belongs to; null for a free token
    bool asked = false;
    bool cancelled = false;
    bool perhaps = false; // computed by look()
    time_point grace_end = time_point::max();
    time_point perhaps_grace_end = time_point::max(); // of a cancel that its scope has seen
    time_point deadline = time_point::max();          // of its scope
};

struct model_fiber {
    model_scope* base = nullptr;      // the scope of its nursery
    model_scope* innermost = nullptr; // of the scopes that it has entered
    int count = 0;                    // its uncaught exceptions

    bool waiting = false;    // in a wait that a cancel ends
    time_point decided{};    // when another event ends the wait; max: not known
    bool must_throw = false; // a cancel came before that event
    bool saw_cancel = false; // a cancel was in sight at some time of the wait
};

class cancel_model {
public:
    explicit cancel_model(manual_poller& outside) : outside_(outside) {}

    [[nodiscard]] model_fiber& add_fiber(model_scope* base);
    [[nodiscard]] model_scope& add_scope();
    [[nodiscard]] model_token& add_token();
    [[nodiscard]] model_token& token_of(model_scope& s);

    // The calls of the program.
    void bind(model_scope& s, model_token& t) { s.bound.push_back(&t); }
    void enter(model_fiber& f, model_scope& s);
    void leave(model_scope& s);
    void cancel(model_scope& s, duration grace = {});
    void cancel(model_token& t, duration grace);
    void set_deadline(model_scope& s, time_point deadline);
    void set_shielded(model_scope& s, bool shielded);
    void move(model_fiber& f, model_scope& base); // to another nursery
    void compute(duration d);                     // time passes, and the scheduler does not look
    void begin_wait(model_fiber& f, time_point decided);
    void decide(model_fiber& f); // its wait has ended, or perhaps has
    void end_wait(model_fiber& f);

    // Applies the deadlines and graces that have passed. All functions above call it first.
    void look();

    // Tell whether a cancel is in sight of a wait here and now, of a child of this nursery, and of
    // the code around this scope. Call look() before.
    [[nodiscard]] verdict visible(const model_fiber& f) const;
    [[nodiscard]] verdict visible_to_children(const model_scope& nursery) const;
    [[nodiscard]] verdict visible_outside(const model_scope& s) const;
    [[nodiscard]] static verdict cancelled_itself(const model_scope& s);
    [[nodiscard]] static model_scope* innermost(const model_fiber& f) {
        return f.innermost != nullptr ? f.innermost : f.base;
    }
    [[nodiscard]] verdict cancel_called(const model_scope& s) const;
    [[nodiscard]] verdict cancelled(const model_token& t) const;
    // Returns the earliest deadline in sight, min if a cancel is in sight. `certain` tells whether
    // the result is certain.
    [[nodiscard]] time_point deadline(const model_fiber& f, bool& certain) const;

private:
    // Calls see(scope) for the scopes in sight, beginning with `from`, until it returns true.
    template <typename See>
    static void walk(const model_fiber& f, const model_scope* from, int count, See see);
    [[nodiscard]] static verdict seen(const model_fiber& f, const model_scope* from, int count);
    [[nodiscard]] static model_scope* parent(const model_scope& s);
    [[nodiscard]] static bool active(const model_scope& s) { return s.owner != nullptr && !s.left; }
    [[nodiscard]] static time_point event(const model_scope& s) {
        return std::min(s.deadline, s.grace_end);
    }
    void arm(model_scope& s);
    void take(model_scope& s, bool now, time_point grace_end);
    void spread(time_point when);
    void interrupt_waits(time_point when);
    [[nodiscard]] time_point looked_until() const;
    [[nodiscard]] time_point noticed(time_point t) const;

    manual_poller& outside_;
    std::deque<model_fiber> fibers_;
    std::deque<model_scope> scopes_;
    std::deque<model_token> tokens_;
    std::vector<model_fiber*> waiting_;
    std::vector<std::pair<time_point, time_point>> jumps_; // of compute()
    int looks_at_jump_ = -1;                               // polls and waits before the last jump
};

} // namespace creel::test
