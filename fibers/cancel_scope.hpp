// A cancel scope: a stretch of code that can be cancelled as a whole, by hand or by a deadline.
//
//     auto reply = creel::move_on_after(50ms, [&] { return ask(backend); }); // optional
//     auto page = creel::fail_after(2s, [&] { return fetch(url); });         // or timed_out
//
// Scopes nest, and nurseries are scopes too; together they are a tree. A scope is effectively
// cancelled if it is cancelled itself, or if its parent is effectively cancelled and the scope is
// not shielded. A wait throws `cancelled` when its innermost scope is effectively cancelled. The
// outermost cancelled scope, up to the nearest shield, absorbs the exception. The semantics are
// Trio's.
//
// While an exception unwinds, a wait obeys only the scopes that were entered during that unwinding.
// So a destructor may wait although its fiber is cancelled, and a deadline that it opens works.
#pragma once

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/cancel/scope_core.hpp>
#include <creel/fibers/time.hpp>

#include <concepts>
#include <functional>
#include <optional>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace creel {

class cancel_scope;
class cancel_token;

namespace detail {
[[nodiscard]] scope_core& core_of(cancel_scope& scope) noexcept;
[[nodiscard]] const scope_core& core_of(const cancel_scope& scope) noexcept;
} // namespace detail

class cancel_scope {
public:
    // A scope with no deadline, or with an absolute one. It takes effect when run() enters it.
    cancel_scope() noexcept = default;
    explicit cancel_scope(saturating_time_point deadline) noexcept : core_(deadline) {}

    cancel_scope(const cancel_scope&) = delete;
    cancel_scope& operator=(const cancel_scope&) = delete;

    // Runs f, which may take the cancel_scope&, inside this scope. Call it once. Returns the value
    // of f in an optional (bool for void): empty or false if this scope absorbed a cancel.
    // Parks: as f does. Threads: any. Throws: what f throws. Cost: a few ns and, with a deadline,
    // two clock reads and a timer.
    template <typename F>
    auto run(F&& f);

    // Cancels everything inside, now or after a grace. During the grace only cancel_called() and
    // the cancelled() of tokens report it, so that cooperative code may finish. Idempotent: the
    // first reason is kept, and a later cancel may only shorten the grace. Does not switch.
    // Threads: the thread that entered the scope; other threads use its token().
    // Throws: std::bad_alloc.
    void cancel(std::string text = {}, saturating_duration grace = {});
    void cancel(cancel_reason reason, saturating_duration grace = {});

    // A handle that cancels this scope from any thread and may outlive it: <cancel_token.hpp>.
    // Threads: the thread that entered the scope. Throws: std::bad_alloc. Cost: two allocations the
    // first time; a scope without a token pays nothing.
    [[nodiscard]] cancel_token token();

    // Moves the deadline; time_point::max() means none. A deadline in the past cancels the scope.
    // If the old deadline has passed already, noticed or not, it stays: a cancel is final.
    // Threads: the thread that entered the scope. Throws: std::bad_alloc, and then the old deadline
    // stays.
    void set_deadline(saturating_time_point deadline) { core_.set_deadline(deadline); }
    [[nodiscard]] time_point deadline() const noexcept { return core_.deadline; }

    // A shielded scope does not see the cancels around it. The shield may be raised and lowered at
    // any time.
    // Threads: the thread that entered the scope.
    void set_shielded(bool shielded) { core_.set_shielded(shielded); }
    [[nodiscard]] bool shielded() const noexcept { return core_.shielded; }

    // True once this scope itself is cancelled, from the beginning of a grace on. Also true if its
    // deadline passed, noticed or not, before the scope was left.
    // Threads: the thread that entered the scope. Cost: a clock read if it has a deadline.
    [[nodiscard]] bool cancel_called() const noexcept { return core_.cancel_called(); }

    // True if a wait directly in this scope throws: a cancel of the scope itself, or a cancel from
    // outside that the scope sees, has taken effect.
    // Threads: the thread that entered the scope. Cost: a load.
    [[nodiscard]] bool cancel_in_effect() const noexcept { return core_.sees_cancel(); }

    // Why this scope itself was cancelled; null while it is not. Valid as long as the scope lives.
    [[nodiscard]] const cancel_reason* reason() const noexcept { return core_.own.reason.get(); }

private:
    friend detail::scope_core& detail::core_of(cancel_scope& scope) noexcept;
    friend const detail::scope_core& detail::core_of(const cancel_scope& scope) noexcept;

    detail::scope_core core_;
};

namespace detail {

inline scope_core& core_of(cancel_scope& scope) noexcept {
    return scope.core_;
}
inline const scope_core& core_of(const cancel_scope& scope) noexcept {
    return scope.core_;
}

template <typename F>
decltype(auto) call_with_scope(F& f, cancel_scope& scope) {
    if constexpr (std::invocable<F&, cancel_scope&>)
        return std::invoke(f, scope);
    else
        return std::invoke(f);
}

template <typename F>
using scope_result = decltype(call_with_scope(std::declval<F&>(), std::declval<cancel_scope&>()));

// The result of run() for a function that returns R.
template <typename R>
using absorbable =
    std::conditional_t<std::is_void_v<R>, bool, std::optional<std::remove_cvref_t<R>>>;

// Not a handler that leaves the scope and rethrows: a rethrow hides where the error was thrown.
struct leaving_scope {
    scope_core* core; // null: it was left
    ~leaving_scope() {
        if (core != nullptr)
            core->leave();
    }
};

// Calls f inside the scope. `span`: as for scope_core::enter.
template <typename F>
auto run_inside(cancel_scope& scope, duration span, F& f) -> absorbable<scope_result<F>> {
    absorbable<scope_result<F>> value{}; // outside the try: a throwing move must not leave twice
    scope_core& core = core_of(scope);
    core.enter(span);
    leaving_scope at_end{&core};
    try {
        if constexpr (std::is_void_v<scope_result<F>>) {
            call_with_scope(f, scope);
            value = true;
        } else {
            value.emplace(call_with_scope(f, scope));
        }
    } catch (const cancelled&) {
        at_end.core = nullptr;
        if (!core.leave_absorbing())
            throw;
        return value; // empty: nothing was made
    }
    return value;
}

// These throw the error of fail_after, and the error of another call that has no value because it
// was cancelled. `limit`: null for fail_at.
[[noreturn]] void throw_not_finished(const cancel_scope& scope, const duration* limit,
                                     const std::source_location& where);
[[noreturn]] void throw_cut_short(const cancel_scope& scope, const std::source_location& where);

} // namespace detail

template <typename F>
auto cancel_scope::run(F&& f) {
    // Only here, because only this scope can be asked afterwards. So move_on_after reads no clock
    // at the end.
    struct at_end {
        ~at_end() { scope.note_passed_deadline(); }
        detail::scope_core& scope;
    };
    const at_end noted{core_};
    return detail::run_inside(*this, duration{}, f);
}

// Runs f, which may take the cancel_scope&, until the deadline. If the deadline passes first,
// everything in f is cancelled and the result is empty (false for void).
// Parks: as f does. Threads: any. Cost: one clock read and one timer.
template <typename F>
auto move_on_after(saturating_duration d, F&& f) {
    cancel_scope scope{deadline_after(d)};
    return detail::run_inside(scope, d, f);
}
template <typename F>
auto move_on_at(saturating_time_point deadline, F&& f) {
    cancel_scope scope{deadline};
    return detail::run_inside(scope, duration{}, f);
}

namespace detail {
template <typename F>
auto fail_in(cancel_scope& scope, const duration* limit, F& f, const std::source_location& where)
    -> std::remove_cvref_t<scope_result<F>> {
    auto value = run_inside(scope, limit != nullptr ? *limit : duration{}, f);
    if (!value)
        throw_not_finished(scope, limit, where);
    if constexpr (!std::is_void_v<scope_result<F>>)
        return std::move(*value);
}
} // namespace detail

// Like move_on_after, but throws `timed_out` when the deadline ended f; the text of the error names
// the limit and the caller's line. If the scope was cancelled by hand before, it throws
// task_cancelled, even when the deadline cut a grace short: the first reason stays. A cancel from
// outside passes through.
// Parks: as f does. Threads: any. Throws: timed_out, task_cancelled, and what f throws. Cost: one
// clock read and one timer.
template <typename F> // `inline`: GCC inlines a larger function so, and saves 12 instructions
inline auto fail_after(saturating_duration d, F&& f,
                       std::source_location where = std::source_location::current()) {
    cancel_scope scope{deadline_after(d)};
    return detail::fail_in(scope, &d, f, where);
}
template <typename F>
auto fail_at(saturating_time_point deadline, F&& f,
             std::source_location where = std::source_location::current()) {
    cancel_scope scope{deadline};
    return detail::fail_in(scope, nullptr, f, where);
}

// Runs f protected from the cancels outside, for a cleanup that must be able to wait. Give it a
// deadline of its own (fail_after inside), or it may hold up the end forever. Neither entry nor
// exit is a cancellation point, so the result of f is not lost.
// Parks: as f does. Threads: any. Throws: what f throws; task_cancelled if f returns a value and
// was cut short because f itself cancelled this scope. Cost: a few ns.
template <typename F>
auto shield(F&& f, std::source_location where = std::source_location::current())
    -> std::remove_cvref_t<detail::scope_result<F>> {
    cancel_scope scope;
    scope.set_shielded(true);
    auto value = detail::run_inside(scope, duration{}, f);
    if constexpr (!std::is_void_v<detail::scope_result<F>>) {
        if (!value)
            detail::throw_cut_short(scope, where);
        return std::move(*value);
    }
}

// The earliest deadline that a wait here and now would obey, up to the nearest shield; the end of a
// grace counts as a deadline. time_point::max() if there is none, time_point::min() if the caller
// is cancelled already. For a call that takes a timeout of its own.
// Parks: never. Threads: any. Cost: a walk over the scopes.
[[nodiscard]] time_point current_deadline() noexcept;

} // namespace creel
