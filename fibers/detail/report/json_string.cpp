#include <creel/fibers/detail/report/json_string.hpp>

#include <creel/fibers/printable.hpp>

#include <cstddef>

namespace creel::detail {

std::string json_string(std::string_view text) {
    static constexpr char digits[] = "0123456789abcdef";
    std::string quoted{'"'};
    for (std::size_t i = 0; i < text.size();) {
        const char c = text[i];
        if (const std::size_t shown = printable_bytes(text.substr(i)); shown != 0) {
            if (c == '"' || c == '\\')
                quoted += '\\';
            quoted += text.substr(i, shown);
            i += shown;
            continue;
        }
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x80)
            quoted.append("\\u00").append(1, digits[byte >> 4]).append(1, digits[byte & 15]);
        else
            quoted += "\\ufffd";
        ++i;
    }
    return quoted + '"';
}

} // namespace creel::detail
