#include <creel/sync/detail/contender.hpp>

#include <creel/fibers/this_fiber.hpp>

#include <chrono>

namespace creel::sync::detail {

// Where the two threads have clocks of their own (virtual ones), it may seem to come from the
// future.
bool contender::has_waited_long() const noexcept {
    constexpr std::chrono::milliseconds barging_limit{1};
    const duration waited = creel::now() - since;
    return waited >= barging_limit || waited < duration::zero();
}

} // namespace creel::sync::detail
