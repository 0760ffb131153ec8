// The seed of a random test. It is printed, so that a failure or a hang can be repeated with
// CREEL_SEED=12345.
#pragma once

#include <cstdint>

namespace creel::test {

// Returns another seed at each call, or the one in CREEL_SEED. Prints it on stderr with the name of
// the test.
[[nodiscard]] std::uint32_t printed_seed(const char* test);

} // namespace creel::test
