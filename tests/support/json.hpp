// Tells whether a text is JSON.
#pragma once

#include <string_view>

namespace creel::test {

// One value of RFC 8259, with white space around it.
[[nodiscard]] bool is_json(std::string_view text);

} // namespace creel::test
