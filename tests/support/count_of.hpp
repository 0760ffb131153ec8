// How often a text has a part.
#pragma once

#include <cstddef>
#include <string_view>

namespace creel::test {

[[nodiscard]] inline std::size_t count_of(std::string_view part, std::string_view text) noexcept {
    std::size_t found = 0;
    for (std::size_t at = 0; (at = text.find(part, at)) != text.npos; ++at)
        ++found;
    return found;
}

} // namespace creel::test
