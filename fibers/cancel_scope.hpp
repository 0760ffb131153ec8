// A cancel scope: a stretch of code that can be cancelled as a whole, by hand or by a deadline.
//
//     auto reply = creel::move_on_after(50ms, [&] { return ask(backend); }); // optional
//     auto page = creel::fail_after(2s, [&] { return fetch(url); });         // or timed_out
//
// Scopes nest, and nurseries are scopes too; together they are a tree. A wait throws `cancelled`
// when its innermost scope is effectively cancelled: itself, or its parent unless it is shielded.
// The outermost cancelled scope, up to the nearest shield, absorbs the exception. The semantics are
// Trio's.
//
// While an exception unwinds, a wait obeys only the scopes that were entered during that same
// unwinding. So cleanup in a destructor may wait although the fiber is cancelled, and a deadline
// opened there still works.
#pragma once

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/run/parker.hpp>
#include <creel/fibers/detail/time/timer_queue.hpp>
#include <creel/fibers/time.hpp>

#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace creel {

class cancel_token;

namespace detail {

// How far a cancel has come: `asked` lies between cancel(reason, grace) and the end of the grace.
enum class cancel_level : std::uint8_t { none, asked, cancelled };

// When a cancel was called, why, and when it takes effect.
struct cancel_request {
    cancel_level level = cancel_level::none;
    std::shared_ptr<const cancel_reason> reason{};
    time_point requested_at{};
    time_point takes_effect = time_point::max();
};

// True if `later` goes further than what is known, or takes effect sooner.
[[nodiscard]] bool says_more(const cancel_request& later, const cancel_request& known) noexcept;

struct spread_work;
struct token_link;
struct token_state;

} // namespace detail

class cancel_scope {
public:
    // A scope with no deadline, or with an absolute one. It takes effect when run() enters it.
    cancel_scope() noexcept = default;
    explicit cancel_scope(saturating_time_point deadline) noexcept : deadline_(deadline) {}
    ~cancel_scope();

    cancel_scope(const cancel_scope&) = delete;
    cancel_scope& operator=(const cancel_scope&) = delete;

    // Runs f, which may take the cancel_scope&, inside this scope, once. Returns its value in an
    // optional (bool for void): empty or false if this scope absorbed a cancel.
    // Parks: as f does. Throws: what f throws. Threads: any. Cost: a few ns and, with a deadline,
    // two clock reads and a timer.
    template <typename F>
    auto run(F&& f);

    // Cancels everything inside: now, or after a grace, during which only cancel_called() and the
    // tokens' cancelled() tell of it, so that cooperative code may finish. Idempotent: the first
    // reason is kept, and a later cancel may only shorten the grace. Does not switch.
    // Threads: the one that entered the scope; others use its token(). Throws: std::bad_alloc.
    void cancel(std::string text = {}, saturating_duration grace = {});
    void cancel(cancel_reason reason, saturating_duration grace = {});

    // A handle that cancels this scope from any thread and may outlive it: <cancel_token.hpp>.
    // Threads: the one that entered the scope. Throws: std::bad_alloc. Cost: two allocations the
    // first time; scopes that were never asked for a token pay nothing.
    [[nodiscard]] cancel_token token();

    // Moves the deadline; time_point::max() means none. One that has passed cancels, and one that
    // had passed before, noticed or not, stays: to be cancelled is final.
    // Threads: the one that entered the scope. Throws: std::bad_alloc; the old deadline stands
    // then.
    void set_deadline(saturating_time_point deadline);
    [[nodiscard]] time_point deadline() const noexcept { return deadline_; }

    // A shielded scope does not see the cancels around it. May be toggled at any time.
    // Threads: the one that entered the scope.
    void set_shielded(bool shielded);
    [[nodiscard]] bool shielded() const noexcept { return shielded_; }

    // True once this scope itself was cancelled, from the beginning of a grace on, or its deadline
    // has passed, noticed or not, before it was left. Cost: a clock read if it has a deadline.
    [[nodiscard]] bool cancel_called() const noexcept;

    // Why this scope itself was cancelled; null while it is not. Valid as long as the scope.
    [[nodiscard]] const cancel_reason* reason() const noexcept { return reason_.get(); }

private:
    friend struct detail::scope_access;

    struct deadline_timer : detail::timer {
        cancel_scope* scope = nullptr;
    };

    [[noreturn]] void destroyed_inside() const noexcept;
    void enter(duration span);
    void leave() noexcept;
    [[nodiscard]] bool
    leave_absorbing() noexcept; // leaves; true: swallow the `cancelled` in flight
    void arm(duration span);
    void request(const detail::cancel_request& request) noexcept;
    void note_passed_deadline() noexcept; // after it was left
    // Both change only what this scope itself is, and return whether that is news: then the caller
    // spreads it. Deadline or grace has passed; a cancel that was called.
    bool expire() noexcept;
    bool take(const detail::cancel_request& request) noexcept;
    [[nodiscard]] time_point next_event() const noexcept {
        return deadline_ < takes_effect_ ? deadline_ : takes_effect_;
    }
    void require_own_thread(const char* rule) const;

    cancel_scope* parent_ = nullptr;
    cancel_scope* inner_ = nullptr;           // that its fiber entered next, while it is in it
    detail::parker* owner_ = nullptr;         // the fiber that entered it; null outside run()
    detail::nursery_core* nursery_ = nullptr; // set for the scope of a nursery
    detail::token_link* links_ = nullptr;     // to the tokens that know it; null for most scopes
    std::shared_ptr<const cancel_reason> reason_; // set together with own_
    time_point requested_at_{};                   // likewise
    time_point deadline_ = time_point::max();
    time_point takes_effect_ = time_point::max(); // the end of a grace
    deadline_timer timer_;                        // armed for next_event()

    // In sight of a wait directly in this scope: the outermost of the scopes whose cancel has come
    // furthest, and how far. See cancel_tree.cpp, which alone writes it.
    cancel_scope* sight_ = nullptr;
    time_point sight_takes_effect_ = time_point::max(); // while it is `asked`
    cancel_scope* next_to_spread_ = nullptr;            // on the work list of a cancel
    int entry_count_ = 0; // uncaught_exceptions() of the owner at entry
    bool entered_ = false;
    bool shielded_ = false;
    std::uint8_t to_spread_ = 0; // what the work list is to do with it; 0: it is not on it
    detail::cancel_level own_ = detail::cancel_level::none;
    detail::cancel_level sight_level_ = detail::cancel_level::none;
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

// The private side of a scope, for nurseries, tokens and the scheduler. What a wait sees of the
// tree of scopes, and how a cancel spreads through it, is in cancel_tree.cpp.
struct scope_access {
    static void enter(cancel_scope& scope, duration span) { scope.enter(span); }
    static void request(cancel_scope& scope, const cancel_request& r) noexcept { scope.request(r); }
    static void leave(cancel_scope& scope) noexcept { scope.leave(); }
    static bool leave_absorbing(cancel_scope& scope) noexcept { return scope.leave_absorbing(); }
    static void set_nursery(cancel_scope& scope, nursery_core* core) noexcept {
        scope.nursery_ = core;
    }
    static const cancel_scope* parent(const cancel_scope& scope) noexcept { return scope.parent_; }
    static const cancel_scope* inner(const cancel_scope& scope) noexcept { return scope.inner_; }
    static nursery_core* nursery(const cancel_scope& scope) noexcept { return scope.nursery_; }
    static std::shared_ptr<const cancel_reason> reason_of(const cancel_scope& scope) noexcept {
        return scope.reason_;
    }
    // Why work in this scope is cancelled, by the scope itself or from outside. Never null.
    static std::shared_ptr<const cancel_reason>
    reason_in_sight_of(const cancel_scope& scope) noexcept;

    // True if a wait directly in this scope sees a cancel. Cost: a load.
    static bool sees_cancel(const cancel_scope& scope) noexcept {
        return scope.sight_level_ == cancel_level::cancelled;
    }
    // Necessary for visible_cancel, and cheap to ask.
    static bool may_be_cancelled(const parker& who) noexcept {
        return who.scope != nullptr && sees_cancel(*who.scope);
    }
    // The cancel that a wait in `who` sees now: the outermost cancelled scope in sight, or null.
    static cancel_scope* visible_cancel(const parker& who) noexcept;
    // True if `who`, at as many uncaught exceptions as it has now, sees its innermost scope.
    static bool sees_innermost(const parker& who) noexcept;
    // The scope `who` is in; for a native that has entered none, the one of main that it waits
    // under.
    static cancel_scope* innermost_entered(const parker& who) noexcept {
        return who.scope == nullptr || who.scope->entered_ ? who.scope : who.scope->parent_;
    }
    // The earliest deadline, or end of a grace, that a wait in `who` sees.
    static time_point visible_deadline(const parker& who) noexcept;
    // What is in effect or asked for in this scope, by itself or from outside.
    static cancel_request request_of(const cancel_scope& scope) noexcept;

    // Plain threads have neither a timer queue nor an inbox: deadlines and the cancels of other
    // threads are noticed when the thread itself looks: before it may sleep (see park_thread, which
    // needs the tokens' locks for it), or in passing, which takes no lock while none is cancelled.
    static void notice(parker& who) noexcept;
    static void glance(parker& who) noexcept;
    template <typename Asks>
    static void look_at_own(parker& who, Asks asks) noexcept;
    static time_point earliest_event(const parker& who) noexcept;

    // The scope has changed by itself, or lies under another now: brings everything below it up to
    // date, tells the tokens, and interrupts the waits that now see a cancel.
    static void spread(cancel_scope& scope) noexcept;
    static void fire_deadline(timer& fired) noexcept;
    // A fiber goes from the nursery it was spawned into to another.
    static void move_fiber(parker& who, cancel_scope& to) noexcept;

    // The parts of a spread.
    static void spread(spread_work& work) noexcept;
    static void add_changed(cancel_scope& scope, spread_work& work) noexcept;
    static void add_first(cancel_scope& scope, spread_work& work) noexcept;
    static void add(cancel_scope& scope, std::uint8_t what, spread_work& work) noexcept;
    static bool look(cancel_scope& scope, spread_work& work) noexcept;
    static void look_below(cancel_scope& scope, spread_work& work) noexcept;
    static void look_inwards(parker& who, cancel_scope* from, spread_work& work) noexcept;
    static bool is_in_sight_of(const cancel_scope& scope, const cancel_scope& parent) noexcept;

    // Puts a scope that is never entered under `parent` (null: under none), as if its fiber had
    // entered it: the one that natives wait in.
    static void hang(cancel_scope& scope, cancel_scope* parent) noexcept;

    // Tokens.
    static cancel_token token_of(cancel_scope& scope);
    static const std::shared_ptr<token_state>& own_token(cancel_scope& scope);
    static token_link& link(cancel_scope& scope, std::shared_ptr<token_state> state, bool is_own);
    static void request(const cancel_token& token, const cancel_request& r) noexcept;
    static void bind(cancel_scope& scope, const std::shared_ptr<token_state>& state);
    static void bind(cancel_scope& scope, const cancel_token& token);
    static void enter_links(cancel_scope& scope, parker& who) noexcept;
    static void enter_failed(cancel_scope& scope) noexcept;
    static void tell_tokens(cancel_scope& scope, spread_work& work) noexcept;
    static bool set_token_deadline(cancel_scope& scope, time_point deadline) noexcept;
    static void drop_links(cancel_scope& scope) noexcept;
    // In a forked child: no token reaches the scope any more.
    static void forget_links(cancel_scope& scope) noexcept { scope.links_ = nullptr; }
    static bool take(cancel_scope& scope, const cancel_request& request) noexcept {
        return scope.take(request);
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

// A cancel called now.
[[nodiscard]] cancel_request make_request(cancel_reason reason, duration grace);
[[nodiscard]] cancel_request make_request(std::shared_ptr<const cancel_reason> reason,
                                          duration grace) noexcept;

// What fail_after throws, and what else a cut-short call with a value throws.
[[noreturn]] void throw_not_finished(const cancel_scope& scope, const duration* limit,
                                     const std::source_location& where);
[[noreturn]] void throw_cut_short(const cancel_scope& scope, const std::source_location& where);

} // namespace detail

template <typename F>
auto cancel_scope::run(F&& f) {
    // Of the scopes that can be asked afterwards, so that move_on_after need not read the clock.
    struct at_end {
        ~at_end() { scope.note_passed_deadline(); }
        cancel_scope& scope;
    };
    const at_end noted{*this};
    return detail::scope_access::run(*this, duration{}, f);
}

// Runs f, which may take the cancel_scope&, until the deadline. If that passes first, everything
// in f is cancelled and the result is empty (false for void).
// Parks: as f does. Threads: any. Cost: one clock read and one timer.
template <typename F>
auto move_on_after(saturating_duration d, F&& f) {
    cancel_scope scope{deadline_after(d)};
    return detail::scope_access::run(scope, d, f);
}
template <typename F>
auto move_on_at(saturating_time_point deadline, F&& f) {
    cancel_scope scope{deadline};
    return detail::scope_access::run(scope, duration{}, f);
}

namespace detail {
template <typename F>
auto fail_in(cancel_scope& scope, const duration* limit, F& f, const std::source_location& where)
    -> std::remove_cvref_t<scope_result<F>> {
    auto value = scope_access::run(scope, limit != nullptr ? *limit : duration{}, f);
    if (!value)
        throw_not_finished(scope, limit, where);
    if constexpr (!std::is_void_v<scope_result<F>>)
        return std::move(*value);
}
} // namespace detail

// The same, but throws `timed_out`, whose text names the limit and the caller's line, when the
// deadline ended f (task_cancelled if the scope was cancelled by hand before, also when it was the
// deadline that cut a grace short: the first reason stands). A cancel from outside passes through.
// Parks: as f does. Threads: any. Throws: timed_out, task_cancelled, and what f throws. Cost: one
// clock read and one timer.
template <typename F>
auto fail_after(saturating_duration d, F&& f,
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

// Runs f protected from the cancels outside: for a cleanup that must be able to wait. Give it a
// deadline of its own (fail_after inside), or it may hold up the end for ever. Checks nothing on
// entry or exit, so what f has computed is not lost.
// Parks: as f does. Threads: any. Throws: what f throws; task_cancelled if f has a value and was
// cut short because this scope itself was cancelled, which f can do to it. Cost: a few ns.
template <typename F>
auto shield(F&& f, std::source_location where = std::source_location::current())
    -> std::remove_cvref_t<detail::scope_result<F>> {
    cancel_scope scope;
    scope.set_shielded(true);
    auto value = detail::scope_access::run(scope, duration{}, f);
    if constexpr (!std::is_void_v<detail::scope_result<F>>) {
        if (!value)
            detail::throw_cut_short(scope, where);
        return std::move(*value);
    }
}

// The earliest deadline that a wait here and now would obey, up to the nearest shield; the end of a
// grace counts as one. time_point::max() if there is none, time_point::min() if the caller is
// cancelled already. For handing on to something that takes a timeout of its own.
// Parks: never. Threads: any. Cost: a walk over the scopes.
[[nodiscard]] time_point current_deadline() noexcept;

} // namespace creel
