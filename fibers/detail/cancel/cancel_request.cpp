#include <creel/fibers/detail/cancel/cancel_request.hpp>

#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <utility>

namespace creel::detail {

cancel_request cancel_request::now(std::shared_ptr<const cancel_reason> reason,
                                   duration grace) noexcept {
    const time_point t = creel::now();
    if (grace <= duration{})
        return {std::move(reason), t, cancel_level::cancelled, t};
    return {std::move(reason), t, cancel_level::asked, deadline_after(t, grace)};
}

bool cancel_request::rise_to(const cancel_request& later) noexcept {
    const bool is_news =
        level != cancel_level::cancelled &&
        (later.level > level || (later.level == level && later.takes_effect < takes_effect));
    if (!is_news)
        return false;
    if (reason == nullptr) {
        reason = later.reason;
        requested_at = later.requested_at;
    }
    takes_effect = std::min(takes_effect, later.takes_effect);
    level = later.level;
    return true;
}

} // namespace creel::detail
