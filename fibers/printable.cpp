#include <creel/fibers/printable.hpp>

#include <algorithm>
#include <array>
#include <cstdint>

namespace creel {
namespace {

struct code_range {
    std::uint32_t first;
    std::uint32_t last;
};

// Unicode's categories Cc beyond ASCII, Cf, Zl and Zp, in order. Unicode adds characters of Cf to
// these blocks, so a block that holds only format characters is listed whole.
constexpr std::array<code_range, 21> not_shown{{
    {0x80, 0x9f},       // C1
    {0xad, 0xad},       // soft hyphen
    {0x600, 0x605},     // Arabic number signs
    {0x61c, 0x61c},     // Arabic letter mark
    {0x6dd, 0x6dd},     // end of ayah
    {0x70f, 0x70f},     // Syriac abbreviation mark
    {0x890, 0x891},     // Arabic pound and piastre marks
    {0x8e2, 0x8e2},     // disputed end of ayah
    {0x180e, 0x180e},   // Mongolian vowel separator
    {0x200b, 0x200f},   // zero width, left-to-right and right-to-left marks
    {0x2028, 0x202e},   // line and paragraph separator, embeddings and overrides
    {0x2060, 0x206f},   // invisible operators, isolates
    {0xfeff, 0xfeff},   // byte order mark
    {0xfff9, 0xfffb},   // interlinear annotation
    {0x110bd, 0x110bd}, // Kaithi number sign
    {0x110cd, 0x110cd}, // Kaithi number sign above
    {0x13430, 0x1343f}, // Egyptian hieroglyph format controls
    {0x1bca0, 0x1bca3}, // shorthand format controls
    {0x1d173, 0x1d17a}, // musical format controls
    {0xe0001, 0xe0001}, // language tag
    {0xe0020, 0xe007f}, // tags
}};

bool is_shown(std::uint32_t code) noexcept {
    const auto* const at =
        std::lower_bound(not_shown.begin(), not_shown.end(), code,
                         [](const code_range& r, std::uint32_t c) { return r.last < c; });
    return at == not_shown.end() || code < at->first;
}

// The number of bytes of a character with this first byte; 0 if no character begins with it.
std::size_t length_by(std::uint32_t first) noexcept {
    if (first < 0xc2 || first > 0xf4) // 0xc0 and 0xc1 would begin an ASCII character in two bytes
        return 0;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

} // namespace

std::size_t printable_bytes(std::string_view text) noexcept {
    if (text.empty())
        return 0;
    const auto byte = [&](std::size_t i) {
        return std::uint32_t{static_cast<unsigned char>(text[i])};
    };
    const std::uint32_t first = byte(0);
    if (first < 0x80)
        return first < 0x20 || first == 0x7f ? 0 : 1;
    const std::size_t length = length_by(first);
    if (length == 0 || length > text.size())
        return 0;
    std::uint32_t code = first & (0x7fU >> length);
    for (std::size_t i = 1; i < length; ++i) {
        if ((byte(i) & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (byte(i) & 0x3f);
    }
    // Longer than necessary, half of a UTF-16 pair, or beyond Unicode.
    constexpr std::array<std::uint32_t, 5> least{0, 0, 0x80, 0x800, 0x10000};
    if (code < least[length] || (code >= 0xd800 && code <= 0xdfff) || code > 0x10ffff)
        return 0;
    return is_shown(code) ? length : 0;
}

} // namespace creel
