#include <creel/fibers/cancel_scope.hpp>

#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/run/parker.hpp>

#include <memory>
#include <utility>

namespace creel {

void cancel_scope::cancel(std::string text, saturating_duration grace) {
    cancel(cancel_reason{cancel_cause::requested, std::move(text), 0}, grace);
}

void cancel_scope::cancel(cancel_reason reason, saturating_duration grace) {
    core_.require_own_thread("a cancel_scope is cancelled on the thread that entered it; "
                             "elsewhere, cancel its token()");
    if (core_.own.level != detail::cancel_level::cancelled)
        core_.request(detail::cancel_request::now(
            std::make_shared<const cancel_reason>(std::move(reason)), grace));
}

cancel_token cancel_scope::token() {
    core_.require_own_thread("the token of a cancel_scope is taken on the thread that entered it; "
                             "copies of it may then go anywhere");
    return detail::token_of(core_);
}

namespace detail {

void throw_not_finished(const cancel_scope& scope, const duration* limit,
                        const std::source_location& where) {
    if (scope.reason() == nullptr || scope.reason()->cause != cancel_cause::deadline)
        throw_cut_short(scope, where);
    throw timed_out{core_of(scope).own.reason,
                    limit != nullptr ? std::optional{*limit} : std::nullopt, scope.deadline(),
                    where};
}

void throw_cut_short(const cancel_scope& scope, const std::source_location& where) {
    throw task_cancelled{core_of(scope).reason_in_sight(), where};
}

} // namespace detail

time_point current_deadline() noexcept {
    detail::parker& me = detail::this_parker();
    if (me.home == nullptr)
        detail::notice(me);
    return detail::visible_deadline(me);
}

} // namespace creel
