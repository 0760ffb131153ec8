// A cancel scope: a stretch of code that can be cancelled as a whole, by hand or by a deadline.
//
//     auto reply = creel::move_on_after(50ms, [&] { return ask(backend); }); // optional
//     auto page = creel::fail_after(2s, [&] { return fetch(url); });         // or timed_out
//
// Scopes nest, and nurseries are scopes too; together they are a tree. A wait throws `cancelled`
// when its innermost scope is effectively cancelled: itself, or its parent unless it is shielded.
// The outermost cancelled scope absorbs the exception. The semantics are Trio's.
//
// While an exception unwinds, a wait obeys only the scopes that were entered during that same
// unwinding. So cleanup in a destructor may wait although the fiber is cancelled, and a deadline
// opened there still works.
#pragma once

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/parker.hpp>
#include <creel/fibers/detail/timer_queue.hpp>
#include <creel/fibers/time.hpp>

#include <concepts>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

namespace creel {

class cancel_scope {
public:
    // A scope with no deadline, or with an absolute one. It takes effect when run() enters it.
    cancel_scope() noexcept = default;
    explicit cancel_scope(time_point deadline) noexcept : deadline_(deadline) {}
    ~cancel_scope();

    cancel_scope(const cancel_scope&) = delete;
    cancel_scope& operator=(const cancel_scope&) = delete;

    // Runs f, which may take the cancel_scope&, inside this scope, once. Returns its value in an
    // optional (bool for void): empty or false if this scope absorbed a cancel.
    // Parks: as f does. Throws: what f throws. Threads: any. Cost: a few ns and, with a deadline,
    // a clock read and a timer.
    template <typename F>
    auto run(F&& f);

    // Cancels everything inside, now. Idempotent: the first reason is kept. Does not switch.
    // Threads: the one that entered the scope.
    void cancel(std::string text = {});
    void cancel(cancel_reason reason);

    // Moves the deadline; time_point::max() means none. One that has passed cancels.
    // Threads: the one that entered the scope.
    void set_deadline(time_point deadline);
    [[nodiscard]] time_point deadline() const noexcept { return deadline_; }

    // A shielded scope does not see the cancels around it. May be toggled at any time.
    // Threads: the one that entered the scope.
    void set_shielded(bool shielded);
    [[nodiscard]] bool shielded() const noexcept { return shielded_; }

    // True once this scope itself was cancelled or its deadline has passed, noticed or not, before
    // it was left. Cost: a clock read if it has a deadline.
    [[nodiscard]] bool cancel_called() const noexcept;

    // Why this scope itself was cancelled; null while it is not. Valid as long as the scope.
    [[nodiscard]] const cancel_reason* reason() const noexcept { return reason_.get(); }

private:
    friend struct detail::scope_access;

    struct deadline_timer : detail::timer {
        cancel_scope* scope = nullptr;
    };

    void enter(duration span);
    void leave() noexcept;
    [[nodiscard]] bool
    leave_absorbing() noexcept; // leaves; true: swallow the `cancelled` in flight
    void arm(duration span);
    void expire() noexcept; // its deadline has passed
    void require_own_thread(const char* rule) const;

    cancel_scope* parent_ = nullptr;
    detail::parker* owner_ = nullptr;             // who entered it; null outside run()
    detail::nursery_core* nursery_ = nullptr;     // set for the scope of a nursery
    cancel_scope* inner_ = nullptr;               // scratch of the walk that spreads a cancel
    std::shared_ptr<const cancel_reason> reason_; // set together with cancelled_
    time_point deadline_ = time_point::max();
    deadline_timer timer_;
    int entry_count_ = 0; // uncaught_exceptions() of the owner at entry
    bool entered_ = false;
    bool cancelled_ = false;
    bool effective_ = false; // cancelled_ || (parent's effective_ && !shielded_), kept up to date
    bool shielded_ = false;
};

namespace detail {

template <typename F>
decltype(auto) call_with_scope(F& f, cancel_scope& scope) {
    if constexpr (std::invocable<F&, cancel_scope&>)
        return std::invoke(f, scope);
    else
        return std::invoke(f);
}

template <typename F>
using scope_result = decltype(call_with_scope(std::declval<F&>(), std::declval<cancel_scope&>()));

// What run() gives for a function that returns R.
template <typename R>
struct absorbable {
    using type = std::optional<std::remove_cvref_t<R>>;
};
template <>
struct absorbable<void> {
    using type = bool;
};

// The private side of a scope, for nurseries and the scheduler.
struct scope_access {
    static void enter(cancel_scope& scope, duration span) { scope.enter(span); }
    static void leave(cancel_scope& scope) noexcept { scope.leave(); }
    static bool leave_absorbing(cancel_scope& scope) noexcept { return scope.leave_absorbing(); }
    static void set_nursery(cancel_scope& scope, nursery_core* core) noexcept {
        scope.nursery_ = core;
    }
    static bool effective(const cancel_scope& scope) noexcept { return scope.effective_; }
    static const cancel_scope* parent(const cancel_scope& scope) noexcept { return scope.parent_; }
    static const parker* owner(const cancel_scope& scope) noexcept { return scope.owner_; }
    static nursery_core* nursery(const cancel_scope& scope) noexcept { return scope.nursery_; }
    static int entry_count(const cancel_scope& scope) noexcept { return scope.entry_count_; }

    // Necessary for visible_cancel, and cheap to ask.
    static bool may_be_cancelled(const parker& who) noexcept {
        return who.scope != nullptr && who.scope->effective_;
    }

    // The cancel that a wait in `who` sees now: the outermost cancelled scope in sight, or null.
    // The second form looks from `innermost` on, as `who` does at `count` uncaught exceptions.
    static cancel_scope* visible_cancel(const parker& who) noexcept;
    static cancel_scope* visible_cancel(const parker& who, cancel_scope* innermost,
                                        int count) noexcept;
    // Plain threads have no timer queue: their deadlines are noticed when somebody looks.
    static void notice_deadlines(parker& who) noexcept;
    static time_point earliest_deadline(const parker& who) noexcept;

    // Brings effective_ up to date in and below a scope, and interrupts who now sees a cancel.
    static void spread(cancel_scope& scope) noexcept;
    static void fire_deadline(timer& fired) noexcept;
    static void update_chain(parker& who, const cancel_scope* from, const cancel_scope* changed,
                             nursery_core*& work) noexcept;
    // For a scope whose parent is about to be left, and which lives on under another: a native's.
    static void set_parent(cancel_scope& scope, cancel_scope* parent) noexcept {
        scope.parent_ = parent;
    }
    static cancel_scope* parent(cancel_scope& scope) noexcept { return scope.parent_; }
    static std::shared_ptr<const cancel_reason> reason_of(const cancel_scope& scope) noexcept {
        return scope.reason_;
    }

    template <typename F>
    static auto run(cancel_scope& scope, duration span, F& f) ->
        typename absorbable<scope_result<F>>::type {
        using result = scope_result<F>;
        typename absorbable<result>::type
            value{}; // outside of the try: its move must not leave twice
        scope.enter(span);
        try {
            if constexpr (std::is_void_v<result>) {
                call_with_scope(f, scope);
                value = true;
            } else {
                value.emplace(call_with_scope(f, scope));
            }
        } catch (const cancelled&) {
            if (!scope.leave_absorbing())
                throw;
            return value; // empty: nothing was made
        } catch (...) {
            scope.leave();
            throw;
        }
        scope.leave();
        return value;
    }
};

// The deadline d from now, saturating; d may be negative.
[[nodiscard]] time_point deadline_after(duration d) noexcept;

// What fail_after throws, and what else a cut-short call with a value throws.
[[noreturn]] void throw_not_finished(const cancel_scope& scope);
[[noreturn]] void throw_cut_short(const cancel_scope& scope);

} // namespace detail

template <typename F>
auto cancel_scope::run(F&& f) {
    return detail::scope_access::run(*this, duration{}, f);
}

// Runs f, which may take the cancel_scope&, until the deadline. If that passes first, everything
// in f is cancelled and the result is empty (false for void).
// Parks: as f does. Threads: any. Cost: one clock read and one timer.
template <typename F>
auto move_on_after(duration d, F&& f) {
    cancel_scope scope{detail::deadline_after(d)};
    return detail::scope_access::run(scope, d, f);
}
template <typename F>
auto move_on_at(time_point deadline, F&& f) {
    cancel_scope scope{deadline};
    return detail::scope_access::run(scope, duration{}, f);
}

namespace detail {
template <typename F>
auto fail_in(cancel_scope& scope, duration span, F& f) -> std::remove_cvref_t<scope_result<F>> {
    auto value = scope_access::run(scope, span, f);
    if (!value)
        throw_not_finished(scope);
    if constexpr (!std::is_void_v<scope_result<F>>)
        return std::move(*value);
}
} // namespace detail

// The same, but throws `timed_out` when the deadline ended f (task_cancelled if the scope was
// cancelled by hand instead). A cancel from outside passes through.
// Parks: as f does. Threads: any. Throws: timed_out, task_cancelled, and what f throws. Cost: one
// clock read and one timer.
template <typename F>
auto fail_after(duration d, F&& f) {
    cancel_scope scope{detail::deadline_after(d)};
    return detail::fail_in(scope, d, f);
}
template <typename F>
auto fail_at(time_point deadline, F&& f) {
    cancel_scope scope{deadline};
    return detail::fail_in(scope, duration{}, f);
}

// Runs f protected from the cancels outside: for a cleanup that must be able to wait. Give it a
// deadline of its own (fail_after inside), or it may hold up the end for ever. Checks nothing on
// entry or exit, so what f has computed is not lost.
// Parks: as f does. Threads: any. Throws: what f throws; task_cancelled if f has a value and was
// cut short because this scope itself was cancelled, which f can do to it. Cost: a few ns.
template <typename F>
auto shield(F&& f) -> std::remove_cvref_t<detail::scope_result<F>> {
    cancel_scope scope;
    scope.set_shielded(true);
    auto value = detail::scope_access::run(scope, duration{}, f);
    if constexpr (!std::is_void_v<detail::scope_result<F>>) {
        if (!value)
            detail::throw_cut_short(scope);
        return std::move(*value);
    }
}

} // namespace creel
