// With CREEL_TEST_OLDER_KERNEL in the environment the whole program runs as on Linux 6.1, without
// standing receives, registered files that are released at once, and messages to a ring.
#include <creel/io/detail/ring/ring_setup.hpp>

#include <cstdlib>

namespace {

[[maybe_unused]] const bool older = [] {
    using creel::io::detail::newer_feature;
    if (std::getenv("CREEL_TEST_OLDER_KERNEL") == nullptr)
        return false;
    creel::io::detail::withhold(newer_feature::standing_receive);
    creel::io::detail::withhold(newer_feature::registered_file);
    creel::io::detail::withhold(newer_feature::message);
    return true;
}();

} // namespace
