#include <creel/fibers/version.hpp>

#include "support/check.hpp"

#include <string>

TEST_CASE("the version's text is its numbers") {
    std::string text = std::to_string(creel::version.major) + "." +
                       std::to_string(creel::version.minor) + "." +
                       std::to_string(creel::version.patch);
    CHECK(creel::version.text == text);
}
