#include <creel/sync/broadcast.hpp>

#include <creel/fibers/assert.hpp>

#include <string>

namespace creel::sync {

lagged::lagged(std::uint64_t missed)
    : std::runtime_error("a subscriber was too slow and has missed " + std::to_string(missed) +
                         (missed == 1 ? " value" : " values")),
      missed_(missed) {}

void detail::broadcast_keeps_nothing(std::source_location made_at) noexcept {
    const std::string text =
        wait_lock{"broadcast", made_at}.says("it must keep at least one value");
    assertion_failed("kept >= 1", text.c_str(), made_at);
}

} // namespace creel::sync
