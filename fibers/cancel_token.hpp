// A cancel token: cancels from any thread, and outlives what it cancels.
//
//     creel::cancel_token stop = scope.token();       // copies are the same token
//     std::jthread other{[stop] { stop.cancel("closed"); }}; // wakes all that waits inside
//     bool done = stop.run([&] { serve(connection); }); // other work, cancelled together with it
//
// The token of a scope or nursery is cancelled together with it: by hand, by the deadline, or from
// outside (not behind a shield). A cancel is final: a shield that is raised later does not take it
// back.
#pragma once

#include <creel/fibers/cancel_scope.hpp>

#include <memory>
#include <stop_token>
#include <string>

namespace creel {

namespace detail {
struct blocking_call;
struct caller_view;
void run_as_caller(blocking_call& call, const caller_view& caller) noexcept;
// The scope's own token. Throws: std::bad_alloc.
[[nodiscard]] cancel_token token_of(scope_core& scope);
void cancel_for_stop(const cancel_token& token) noexcept;
} // namespace detail

class cancel_token {
public:
    // A new token, of no scope. Throws: std::bad_alloc.
    cancel_token();

    // Cancels the scope that the token was taken from, and all work that run() has bound to it, in
    // each case as cancel_scope::cancel does on the scope's thread. Idempotent, never switches,
    // returns at once: work on other threads is cancelled a moment later.
    // Threads: any. Throws: std::bad_alloc. Cost: an allocation, and a wake for each scope.
    void cancel(std::string text = {}, saturating_duration grace = {}) const;
    void cancel(cancel_reason reason, saturating_duration grace = {}) const;

    // True from the call of cancel() on, whatever the grace, and once the deadline of its scope has
    // passed.
    // Threads: any. Cost: a load; a clock read if there is a deadline.
    [[nodiscard]] bool cancelled() const noexcept;

    // Runs f, which may take the cancel_scope&, in a scope that this token cancels as well. Returns
    // an optional (bool for void): empty or false if a cancel was absorbed.
    // Parks: as f does. Threads: any. Throws: what f throws; std::bad_alloc. Cost: an allocation
    // and a lock.
    template <typename F>
    auto run(F&& f) const {
        cancel_scope scope;
        detail::core_of(scope).bind(state_);
        return detail::run_inside(scope, duration{}, f);
    }

    // True if both are the same token. Threads: any.
    friend bool operator==(const cancel_token&, const cancel_token&) noexcept = default;

    // A move is a copy: there is no empty token.
    cancel_token(const cancel_token&) noexcept = default;
    cancel_token& operator=(const cancel_token&) noexcept = default;

private:
    friend cancel_token detail::token_of(detail::scope_core& scope);
    friend void detail::cancel_for_stop(const cancel_token& token) noexcept;
    // A blocking call is bound to the token of its caller.
    friend void detail::run_as_caller(detail::blocking_call&, const detail::caller_view&) noexcept;
    explicit cancel_token(std::shared_ptr<detail::token_state> state) noexcept
        : state_(std::move(state)) {}

    std::shared_ptr<detail::token_state> state_;
};

// The token of the innermost scope that the caller is in. A caller that has entered no scope is in
// the scope of its nursery (the child of start() has a scope of its own). In the f of blocking()
// the token is that of the caller of blocking(). Outside any scope the token is a new one. So it is
// during unwinding, in scopes that a wait then does not obey.
// Threads: any. Throws: std::bad_alloc.
[[nodiscard]] cancel_token current_token();

// Runs f, which may take the cancel_scope&, in a scope that a stop request cancels: the bridge from
// std::jthread and others. Returns an optional (bool for void), as cancel_token::run.
// Parks: as f does. Threads: any, also for request_stop(). Throws: what f throws; std::bad_alloc.
template <typename F>
auto with_stop_token(std::stop_token stop, F&& f) {
    cancel_scope scope;
    const cancel_token token = scope.token();
    const auto cancel = [&token]() noexcept { detail::cancel_for_stop(token); };
    const std::stop_callback<decltype(cancel)> callback{std::move(stop), cancel};
    return detail::run_inside(scope, duration{}, f);
}

} // namespace creel
