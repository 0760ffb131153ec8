// The version of the headers that a program was compiled with.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <string_view>

namespace creel {

// Numbered by semver.org. The build reads the version from this file.
struct version_info {
    int major;
    int minor;
    int patch;
    std::string_view text;
};

inline constexpr version_info version{0, 1, 0, "0.1.0"};

} // namespace creel
