// The rules of cancelling (DESIGN.md, section 4) in the simplest form that says them: what a test
// of random programs compares the library with.
//
// The program keeps this tree beside the real calls: it says here what it does, before or after it
// does it. Nothing is cached here; each question walks the tree again. Time is the manual poller's.
//
// What has not been noticed yet is not certain: a deadline that a fiber has computed past cancels
// when the scheduler looks at its timers next. So an answer is no, perhaps or yes, and a test holds
// the library to no and yes only.
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
    model_fiber* owner = nullptr; // who has entered it
    model_scope* outer = nullptr; // of the same fiber; null: outside it is the fiber's base
    int entry_count = 0;          // uncaught exceptions of the owner at entry
    bool shielded = false;
    bool left = false;
    time_point deadline = time_point::max();
    time_point grace_end = time_point::max();
    time_point perhaps_grace_end = time_point::max(); // of a cancel that came through a token
    bool asked = false;                               // cancel was called, perhaps with a grace
    bool passed = false;     // its deadline had passed before it was moved, noticed or not
    bool by_hand = false;    // cancel was called before any deadline had passed
    bool cause_open = false; // or just when one had, unnoticed
    bool cancelled = false;  // by itself
    bool astray = false;     // what the model cannot know may have cancelled it
    bool perhaps = false;    // worked out by look()
    model_token* token = nullptr;
    std::vector<model_token*> bound{}; // tokens that cancel it, its own not among them
};

struct model_token {
    int number = 0;               // for listings
    model_scope* scope = nullptr; // whose token it is; null for a free one
    bool asked = false;
    bool cancelled = false;
    bool perhaps = false; // worked out by look()
    time_point grace_end = time_point::max();
    time_point perhaps_grace_end = time_point::max(); // of a cancel that its scope has seen
    time_point deadline = time_point::max();          // of its scope
};

struct model_fiber {
    model_scope* base = nullptr;      // the nursery's it is a child of
    model_scope* innermost = nullptr; // of those it has entered
    int count = 0;                    // its uncaught exceptions

    bool waiting = false;    // in a wait that a cancel ends
    time_point decided{};    // when something else ends that; max: that is open
    bool must_throw = false; // a cancel came before
    bool saw_cancel = false; // a cancel was in sight at some time of the wait
};

class cancel_model {
public:
    explicit cancel_model(manual_poller& outside) : outside_(outside) {}

    [[nodiscard]] model_fiber& add_fiber(model_scope* base);
    [[nodiscard]] model_scope& add_scope();
    [[nodiscard]] model_token& add_token();
    [[nodiscard]] model_token& token_of(model_scope& s);

    // What the program does.
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
    void decide(model_fiber& f); // what it waits for has come, or perhaps has
    void end_wait(model_fiber& f);

    // Takes in what the clock has brought. Everything above does so first.
    void look();

    // Is a cancel in sight of a wait here and now; of a child of this nursery; of the code around
    // this scope? Ask after look().
    [[nodiscard]] verdict visible(const model_fiber& f) const;
    [[nodiscard]] verdict visible_to_children(const model_scope& nursery) const;
    [[nodiscard]] verdict visible_outside(const model_scope& s) const;
    [[nodiscard]] static verdict cancelled_itself(const model_scope& s);
    [[nodiscard]] static model_scope* innermost(const model_fiber& f) {
        return f.innermost != nullptr ? f.innermost : f.base;
    }
    [[nodiscard]] verdict cancel_called(const model_scope& s) const;
    [[nodiscard]] verdict cancelled(const model_token& t) const;
    // The earliest deadline in sight, min if that is cancelled; only where all is certain.
    [[nodiscard]] time_point deadline(const model_fiber& f, bool& certain) const;

private:
    // Calls see(scope) for the scopes in sight from one on, until it returns true.
    template <typename See>
    static void walk(const model_fiber& who, const model_scope* from, int count, See see);
    [[nodiscard]] static verdict seen(const model_fiber& who, const model_scope* from, int count);
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
    int looks_at_jump_ = -1;                               // polls and waits until the last of them
};

} // namespace creel::test
