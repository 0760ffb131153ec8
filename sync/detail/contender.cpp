#include <creel/sync/detail/contender.hpp>

namespace creel::sync::detail {

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
