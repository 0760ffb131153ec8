// Reads the JSON that a dump is made of (RFC 8259).
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace creelctl {

struct json {
    // Throws: failure if the text is no JSON.
    [[nodiscard]] static json parse(std::string_view text);

    // Of an object; what is missing is an empty value.
    [[nodiscard]] const json& operator[](const std::string& key) const;
    [[nodiscard]] bool empty() const noexcept {
        return text.empty() && items.empty() && members.empty();
    }
    [[nodiscard]] double number() const noexcept; // from 0 to 10^18
    [[nodiscard]] bool is_true() const noexcept { return text == "true"; }

    std::string text{}; // printable: of a string, or the letters of a number, true, false, null
    std::vector<json> items{};
    std::map<std::string, json> members{};
};

} // namespace creelctl
