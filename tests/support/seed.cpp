#include "support/seed.hpp"

#include <cstdio>
#include <cstdlib>
#include <random>

namespace creel::test {

std::uint32_t printed_seed(const char* test) {
    const char* given = std::getenv("CREEL_SEED");
    const auto seed = given != nullptr
                          ? static_cast<std::uint32_t>(std::strtoul(given, nullptr, 10))
                          : std::random_device{}();
    std::fprintf(stderr, "%s: seed %u\n", test, seed);
    return seed;
}

} // namespace creel::test
