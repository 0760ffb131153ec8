#pragma once

#include <creel/fibers/build_check.hpp>

#include <string_view>

namespace creel {

// The library's version, by semver.org. The build reads it from here.
struct version_info {
    int major;
    int minor;
    int patch;
    std::string_view text;
};

inline constexpr version_info version{0, 1, 0, "0.1.0"};

} // namespace creel
