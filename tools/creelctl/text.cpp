#include "text.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

namespace creelctl {

namespace {

constexpr bool obeyed(std::uint32_t point) noexcept {
    return point < 0x20 || (point >= 0x7F && point <= 0x9F) ||
           (point >= 0xD800 && point <= 0xDFFF) || point == 0x061C || point == 0x200E ||
           point == 0x200F || (point >= 0x2028 && point <= 0x202E) ||
           (point >= 0x2066 && point <= 0x2069) || point > 0x10FFFF;
}

// The number of bytes of the printable character at the beginning; 0: there is none.
std::size_t printable_bytes(std::string_view text) noexcept {
    static constexpr std::uint32_t least[]{0, 0, 0x80, 0x800, 0x10000};
    const auto first = static_cast<unsigned char>(text.front());
    const std::size_t bytes = first < 0x80             ? 1
                              : (first & 0xE0) == 0xC0 ? 2
                              : (first & 0xF0) == 0xE0 ? 3
                              : (first & 0xF8) == 0xF0 ? 4
                                                       : 0;
    if (bytes == 0 || text.size() < bytes)
        return 0;
    std::uint32_t point = bytes == 1 ? first : first & (0xFFU >> (bytes + 1));
    for (std::size_t i = 1; i < bytes; ++i) {
        const auto next = static_cast<unsigned char>(text[i]);
        if ((next & 0xC0) != 0x80)
            return 0;
        point = (point << 6) | (next & 0x3FU);
    }
    return point < least[bytes] || obeyed(point) ? 0 : bytes;
}

} // namespace

std::string printable(std::string_view text, keep what) {
    std::string shown;
    shown.reserve(text.size());
    while (!text.empty()) {
        const char c = text.front();
        const std::size_t bytes =
            what == keep::lines && (c == '\n' || c == '\t') ? 1 : printable_bytes(text);
        if (bytes != 0)
            shown += text.substr(0, bytes);
        else
            shown += '?';
        text.remove_prefix(std::max<std::size_t>(bytes, 1));
    }
    return shown;
}

bool is_number(std::string_view text) noexcept {
    return !text.empty() &&
           std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
}

double number_in(const std::string& text) noexcept {
    const double n = std::strtod(text.c_str(), nullptr);
    return n > 0 ? std::min(n, 1e18) : 0; // also of what is not a number
}

} // namespace creelctl
