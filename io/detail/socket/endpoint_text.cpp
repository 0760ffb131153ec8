#include <creel/io/detail/socket/endpoint_text.hpp>

#include <creel/fibers/printable.hpp>

#include <algorithm>
#include <cstddef>
#include <stdexcept>

namespace creel::io::detail {
namespace {

constexpr char hex_digits[] = "0123456789abcdef";

bool is_control(char c) noexcept {
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

// -1 for a character that is no hexadecimal digit.
int hex_value(char c) noexcept {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

} // namespace

std::string escaped(std::string_view raw) {
    std::string out;
    out.reserve(raw.size());
    for (std::size_t i = 0; i < raw.size();) {
        const std::size_t shown = printable_bytes(raw.substr(i));
        if (shown == 0)
            append_hex(out, raw[i]);
        else if (raw[i] == '\\')
            out += "\\\\";
        else
            out += raw.substr(i, shown);
        i += std::max<std::size_t>(shown, 1);
    }
    return out;
}

void append_hex(std::string& out, char c) {
    const auto byte = static_cast<unsigned char>(c);
    out += "\\x";
    out += hex_digits[byte >> 4];
    out += hex_digits[byte & 15];
}

std::string unescaped(std::string_view path, std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < path.size(); ++i) {
        if (is_control(path[i]))
            refuse_endpoint(text, "a control character in a path is written \\xHH, in hexadecimal");
        if (path[i] != '\\') {
            out += path[i];
        } else if (path.substr(i + 1).starts_with('\\')) {
            out += '\\';
            i += 1;
        } else if (path.size() - i >= 4 && path[i + 1] == 'x' && hex_value(path[i + 2]) >= 0 &&
                   hex_value(path[i + 3]) >= 0) {
            out += static_cast<char>(hex_value(path[i + 2]) * 16 + hex_value(path[i + 3]));
            i += 3;
        } else {
            refuse_endpoint(text, "a backslash in a path is written \"\\\\\", another byte \\xHH");
        }
    }
    return out;
}

// The text may come from anywhere: it is cut, and it cannot break the line.
std::string quoted(std::string_view text) {
    constexpr std::size_t shown_bytes = 120;
    return '"' + escaped(text.substr(0, shown_bytes)) +
           (text.size() > shown_bytes ? "\"... (" + std::to_string(text.size()) + " bytes)" : "\"");
}

void refuse_endpoint(std::string_view text, std::string_view why) {
    throw std::invalid_argument("creel: endpoint " + quoted(text) + ": " + std::string{why});
}

} // namespace creel::io::detail
