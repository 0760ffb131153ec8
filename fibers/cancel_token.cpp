#include <creel/fibers/cancel_token.hpp>

#include <creel/fibers/detail/blocking/running_call.hpp>
#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/cancel/standing_reason.hpp>
#include <creel/fibers/detail/cancel/token.hpp>
#include <creel/fibers/detail/run/parker.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <utility>

namespace creel {

namespace detail {

namespace {
constinit standing_reason stop_requested{cancel_cause::requested, "a stop was requested"};
const standing_reasons_made stop_requested_is_made{stop_requested};

// What the request leads to on this thread is spread when the state's lock is free again.
void cancel_from_anywhere(token_state& state, const cancel_request& r) noexcept {
    spread_work work;
    state.request(r, work);
    work.run();
}
} // namespace

cancel_token token_of(scope_core& scope) {
    return cancel_token{scope.own_token()};
}

void cancel_for_stop(const cancel_token& token) noexcept {
    cancel_from_anywhere(*token.state_, cancel_request::now(stop_requested.get()));
}

} // namespace detail

cancel_token::cancel_token() : state_(std::make_shared<detail::token_state>()) {}

void cancel_token::cancel(std::string text, saturating_duration grace) const {
    cancel(cancel_reason{cancel_cause::requested, std::move(text), 0}, grace);
}

void cancel_token::cancel(cancel_reason reason, saturating_duration grace) const {
    // A token that has only followed a cancel from outside can still be cancelled itself: a shield
    // may have been raised since.
    if (!state_->was_cancelled())
        detail::cancel_from_anywhere(
            *state_, detail::cancel_request::now(
                         std::make_shared<const cancel_reason>(std::move(reason)), grace));
}

bool cancel_token::cancelled() const noexcept {
    return state_->is_cancelled();
}

// During unwinding, a scope that a wait here and now does not obey is no scope to the caller: its
// token would cut short work that may still wait.
cancel_token current_token() {
    const detail::parker& me = detail::this_parker();
    detail::scope_core* innermost = detail::innermost_entered(me);
    if (innermost == nullptr || !detail::sees_innermost(me))
        return cancel_token{};
    if (const cancel_token* callers = detail::token_of_caller(*innermost))
        return *callers;
    return detail::token_of(*innermost);
}

} // namespace creel
