// The seed of a random test: printed, so that a failure, or a hang, can be run again with
// CREEL_SEED=12345.
#pragma once

#include <cstdint>

namespace creel::test {

// Another one at each call, or what CREEL_SEED says; on stderr with the name of the test.
[[nodiscard]] std::uint32_t printed_seed(const char* test);

} // namespace creel::test
