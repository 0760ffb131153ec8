#include <creel/sync/broadcast.hpp>

#include <string>

namespace creel::sync {

lagged::lagged(std::uint64_t missed)
    : std::runtime_error("a subscriber was too slow and has missed " + std::to_string(missed) +
                         (missed == 1 ? " value" : " values")),
      missed_(missed) {}

} // namespace creel::sync
