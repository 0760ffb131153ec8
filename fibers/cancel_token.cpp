#include <creel/fibers/cancel_token.hpp>

#include <creel/fibers/detail/blocking/running_call.hpp>
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
} // namespace

cancel_request make_request(cancel_reason reason, duration grace) {
    return make_request(std::make_shared<const cancel_reason>(std::move(reason)), grace);
}

cancel_request make_request(std::shared_ptr<const cancel_reason> reason, duration grace) noexcept {
    const time_point t = now();
    if (grace <= duration{})
        return {cancel_level::cancelled, std::move(reason), t, t};
    return {cancel_level::asked, std::move(reason), t, deadline_after(t, grace)};
}

bool says_more(const cancel_request& later, const cancel_request& known) noexcept {
    if (known.level == cancel_level::cancelled || later.level < known.level)
        return false;
    return later.level > known.level || later.takes_effect < known.takes_effect;
}

void scope_access::request(const cancel_token& token, const cancel_request& r) noexcept {
    spread_work work;
    token.state_->request(r, work);
    spread(work);
}

void scope_access::bind(cancel_scope& scope, const cancel_token& token) {
    bind(scope, token.state_);
}

cancel_token scope_access::token_of(cancel_scope& scope) {
    return cancel_token{own_token(scope)};
}

void cancel_for_stop(const cancel_token& token) noexcept {
    scope_access::request(token, make_request(stop_requested.get(), duration{}));
}

} // namespace detail

cancel_token::cancel_token() : state_(std::make_shared<detail::token_state>()) {}

void cancel_token::cancel(std::string text, saturating_duration grace) const {
    cancel(cancel_reason{cancel_cause::requested, std::move(text), 0}, grace);
}

void cancel_token::cancel(cancel_reason reason, saturating_duration grace) const {
    // One that has only followed a cancel outside of its scope can still be cancelled itself: a
    // shield may have been raised since.
    if (!state_->was_cancelled())
        detail::scope_access::request(*this, detail::make_request(std::move(reason), grace));
}

bool cancel_token::cancelled() const noexcept {
    return state_->is_cancelled();
}

// One that a wait here and now does not obey, while unwinding, is none to the caller: its token
// would cut short what a wait may do.
cancel_token current_token() {
    const detail::parker& me = detail::this_parker();
    cancel_scope* innermost = detail::scope_access::innermost_entered(me);
    if (innermost == nullptr || !detail::scope_access::sees_innermost(me))
        return cancel_token{};
    if (const cancel_token* callers = detail::token_of_caller(*innermost))
        return *callers;
    return detail::scope_access::token_of(*innermost);
}

} // namespace creel
