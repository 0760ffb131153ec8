#include <creel/sync/detail/contender.hpp>

#include <creel/fibers/this_fiber.hpp>

#include <chrono>

namespace creel::sync::detail {

// Where the two threads have clocks of their own (virtual ones), it may seem to come from the
// future.
bool contender::is_due(time_point now) const noexcept {
    constexpr std::chrono::milliseconds barging_limit{1};
    const duration waited = now - since;
    return waited >= barging_limit || waited < duration::zero();
}

bool contender::has_waited_long() const noexcept {
    return is_due(creel::now());
}

// The time of the last poll, for a look at the clock would cost as much as the hand-over.
contender* next_behind(contender& first) noexcept {
    constexpr int close = 8;
    wait_node* behind = first.next();
    for (int i = 0; i < close && behind != nullptr; ++i, behind = behind->next())
        if (auto* const one = static_cast<contender*>(behind); one->is_here())
            return first.is_due(recent_time()) ? &first : one;
    return &first;
}

} // namespace creel::sync::detail
