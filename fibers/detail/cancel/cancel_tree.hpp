// The tree of cancel scopes: what a wait sees of it, and how a cancel spreads through it. The rules
// are in cancel_tree.cpp.
#pragma once

#include <creel/fibers/detail/cancel/scope_core.hpp>
#include <creel/fibers/detail/run/parker.hpp>
#include <creel/fibers/time.hpp>

#include <cstdint>

namespace creel::detail {

// ---- what a wait sees. `p` is the fiber or plain thread that waits. -----------------------------

// A necessary condition for visible_cancel, and cheap to ask.
[[nodiscard]] inline bool may_be_cancelled(const parker& p) noexcept {
    return p.scope != nullptr && p.scope->sees_cancel();
}
// The cancel that a wait of `p` sees now: the outermost cancelled scope in sight, or null.
[[nodiscard]] scope_core* visible_cancel(const parker& p) noexcept;
// True if `p`, with as many uncaught exceptions as it has now, sees its innermost scope. A plain
// thread asks it only of itself.
[[nodiscard]] bool sees_innermost(const parker& p) noexcept;
// The scope `p` is in; for a native that has entered none, the scope of main that it waits under.
[[nodiscard]] inline scope_core* innermost_entered(const parker& p) noexcept {
    return p.scope == nullptr || p.scope->entered ? p.scope : p.scope->parent;
}
// True if a cancel of `outer` would be in sight of `inner`, or of a wait of `p`.
[[nodiscard]] bool reaches(const scope_core& outer, const scope_core& inner) noexcept;
[[nodiscard]] bool would_see(const parker& p, const scope_core& outer) noexcept;
// The earliest deadline, or end of a grace, that a wait of `p` sees.
[[nodiscard]] time_point visible_deadline(const parker& p) noexcept;

// ---- plain threads ------------------------------------------------------------------------------

// A plain thread has neither a timer queue nor an inbox. It notices deadlines and the cancels of
// other threads when it looks itself.
//
// For waiter::park_thread(), before the thread may sleep, and for scope_core::leave_absorbing():
// takes the locks of the tokens.
void notice(parker& p) noexcept;
// For a look in passing: takes no lock while no token is cancelled.
void glance(parker& p) noexcept;
// The earliest deadline, or end of a grace, of the scopes that `p` is in.
[[nodiscard]] time_point earliest_event(const parker& p) noexcept;

// ---- how a change spreads -----------------------------------------------------------------------

// The scopes of this thread from which a change is still to be spread: one list, first in first
// out. A scope is on it at most once. Threads: own.
class spread_work {
public:
    spread_work() = default;
    spread_work(const spread_work&) = delete;
    spread_work& operator=(const spread_work&) = delete;

    // The scope's own level has changed.
    void add_changed(scope_core& scope) noexcept { add(scope, look_at_it); }
    // The same, before all others, for a scope that is not on the list.
    void add_first(scope_core& scope) noexcept;

    // Works through the list.
    void run() noexcept;

    // Brings the sight of the scope up to date, and tells the scope's own token. True if the sight
    // has changed: then the caller looks below the scope.
    bool look(scope_core& scope) noexcept;
    // Looks at what lies below a scope that has changed.
    void look_below(scope_core& scope) noexcept;
    // Looks at the scopes that `p` has entered, from one of them inwards (null: at none). Then
    // interrupts the wait of `p` if that wait sees a cancel now.
    void look_inwards(parker& p, scope_core* from) noexcept;

private:
    static constexpr std::uint8_t look_at_it = 1;
    static constexpr std::uint8_t look_beneath = 2;

    void add(scope_core& scope, std::uint8_t what) noexcept;

    scope_core* first_ = nullptr;
    scope_core* last_ = nullptr;
};

// Moves a fiber from the nursery that it was spawned into to another nursery, whose scope is `to`.
void move_fiber(parker& p, scope_core& to) noexcept;

} // namespace creel::detail
