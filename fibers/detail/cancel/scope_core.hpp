// The core of a cancel_scope: its own cancel, its place in the tree of scopes, and what a wait
// inside it sees of the scopes around it.
//
// The life of a scope:
//
//              1                       2           3
//     made ─────────► entered ──────────────────► left ──► destroyed
//     ▲ │ │ 4          (owner is set)                          ▲
//     └─┘ └─────────────────────────── 3 ──────────────────────┘
//     1  enter(): the calling fiber or plain thread becomes the owner; the scope becomes its
//        innermost one, and the timer of the deadline is armed
//     2  leave(), leave_absorbing(): in the reverse order of entering
//     3  the destructor, from `made` and from `left` only; else it ends the process
//     4  enter() without memory for the timer: it throws, and the scope may be entered again
// hang_under() puts into the tree a scope that is never entered: natives wait in it.
//
// Its own level rises in each of these states (the drawing is in cancel_request.hpp):
//
//     function        from             to         called by
//     take()          none, asked      asked      cancel(reason, grace); a token with a grace
//     take()          none, asked      cancelled  cancel(reason); a token; without memory for the
//                                                 timer of the grace also cancel(reason, grace)
//     expire()        none, asked      cancelled  the timer; set_deadline() to the past; enter()
//                                                 if the deadline has passed; a plain thread
//                                                 that looks at its clock; take(), if the
//                                                 grace has passed; note_passed_deadline()
// Both return true if this changes anything: then the caller spreads the change.
//
// Sight. `sight` is the outermost of the scopes in sight whose cancel has come furthest, this scope
// among them; null if none is cancelled or asked. Only spread_work::look() raises it. leave() takes
// it back to the scope itself, because the scopes around it may be destroyed. cancel_tree.cpp has
// the rules.
//
// Threads: the owner's; before the scope is entered and after it is left, any, one at a time.
#pragma once

#include <creel/fibers/detail/cancel/cancel_request.hpp>
#include <creel/fibers/detail/run/parker.hpp>
#include <creel/fibers/detail/time/timer_queue.hpp>

#include <cstdint>
#include <memory>

namespace creel::detail {

class spread_work;
struct token_link;
struct token_state;

struct scope_core {
    scope_core() noexcept = default;
    explicit scope_core(time_point d) noexcept : deadline(d) {}
    ~scope_core();
    scope_core(const scope_core&) = delete;
    scope_core& operator=(const scope_core&) = delete;

    // ---- its life, see above

    // `span`: the duration that the deadline was just made from, zero if there is none. It saves a
    // clock read. Throws: std::bad_alloc.
    void enter(duration span);
    void leave() noexcept;
    // Leaves the scope. True: the `cancelled` that is in flight stops here.
    [[nodiscard]] bool leave_absorbing() noexcept;
    // Places the scope as if the owner of `outer` (null: no owner) had entered it there.
    void hang_under(scope_core* outer) noexcept;

    // ---- its own cancel

    // Takes a cancel that was called, and spreads the change.
    void request(const cancel_request& r) noexcept;
    bool take(const cancel_request& r) noexcept;
    bool expire() noexcept;
    void set_deadline(time_point next);
    void set_shielded(bool is_shielded);
    [[nodiscard]] bool cancel_called() const noexcept;
    // For a scope that was left: a deadline that had passed by then counts as noticed at the last
    // moment.
    void note_passed_deadline() noexcept;
    void require_own_thread(const char* rule) const;

    // ---- what a wait sees, and how a change spreads: cancel_tree.cpp

    // True if a wait directly in this scope sees a cancel. Cost: a load.
    [[nodiscard]] bool sees_cancel() const noexcept {
        return sight_level == cancel_level::cancelled;
    }
    // The cancel that is in effect or asked for in this scope, by itself or from outside.
    [[nodiscard]] cancel_request request_in_sight() const noexcept;
    // Why work in this scope is cancelled, by the scope itself or from outside. Never null.
    [[nodiscard]] std::shared_ptr<const cancel_reason> reason_in_sight() const noexcept;
    // The scope has changed by itself, or lies under another now: brings everything below it up to
    // date, tells the tokens, and interrupts the waits that now see a cancel.
    void spread() noexcept;

    // ---- its tokens: token.cpp

    // The state of its own token, made when it is first asked for. Throws: std::bad_alloc.
    const std::shared_ptr<token_state>& own_token();
    // From now on `state` cancels this scope as well. Throws: std::bad_alloc.
    void bind(const std::shared_ptr<token_state>& state);
    // Called when the sight has changed: the scope's own token follows.
    void tell_tokens(spread_work& work) noexcept;
    // In a forked child: no token reaches the scope any more.
    void forget_links() noexcept { links = nullptr; }

    [[nodiscard]] time_point next_event() const noexcept {
        return deadline < own.takes_effect ? deadline : own.takes_effect;
    }

    // In this order the fields are initialised with few stores.
    cancel_request own{};
    scope_core* parent = nullptr;
    scope_core* inner = nullptr;     // the scope that its owner entered next, while it is in it
    parker* owner = nullptr;         // null outside enter() and leave()
    nursery_core* nursery = nullptr; // set for the scope of a nursery
    token_link* links = nullptr;     // to the tokens that know it; null for most scopes
    time_point deadline = time_point::max();

    // Only spread_work::look() writes these three, and leave() the last two.
    time_point sight_takes_effect = time_point::max(); // while the level is `asked`
    scope_core* sight = nullptr;
    cancel_level sight_level = cancel_level::none;

    bool entered = false; // stays true when it is left
    bool shielded = false;
    std::uint8_t to_spread = 0; // what the work list of a spread is to do; 0: it is not on the list
    int entry_count = 0;        // uncaught_exceptions() of the owner at entry
    scope_core* next_to_spread = nullptr; // on that list

private:
    struct event_timer : timer {
        scope_core* scope = nullptr;
    };

    [[noreturn]] void destroyed_inside() const noexcept;
    void arm(duration span);
    static void fire_event(timer& fired) noexcept;

    void enter_links(parker& me) noexcept;
    void enter_failed() noexcept;
    bool set_token_deadline(time_point next) noexcept;
    void drop_links() noexcept;
    token_link& link(std::shared_ptr<token_state> state, bool is_own);

    event_timer timer_; // armed for next_event()
};

} // namespace creel::detail
