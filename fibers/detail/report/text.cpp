#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/printable.hpp>

#include <array>
#include <chrono>
#include <cstdio>

namespace creel::detail {

std::string escaped(std::string_view text) {
    std::string plain;
    plain.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
        const std::size_t shown = printable_bytes(text.substr(i));
        if (shown != 0) {
            plain += text.substr(i, shown);
            i += shown;
            continue;
        }
        const char c = text[i++];
        if (c == '\n') {
            plain += "\\n";
        } else if (c == '\t') {
            plain += "\\t";
        } else {
            std::array<char, 8> code{};
            std::snprintf(code.data(), code.size(), "\\x%02x",
                          static_cast<unsigned>(static_cast<unsigned char>(c)));
            plain += code.data();
        }
    }
    return plain;
}

std::string to_text(duration d) {
    struct unit {
        const char* name;
        double ns;
    };
    static constexpr std::array<unit, 4> units{{{"s", 1e9}, {"ms", 1e6}, {"us", 1e3}, {"ns", 1}}};
    const auto ns = static_cast<double>(std::chrono::nanoseconds{d}.count());
    for (const unit& u : units) {
        if ((ns < 0 ? -ns : ns) < u.ns && u.ns > 1)
            continue;
        std::array<char, 32> digits{};
        std::snprintf(digits.data(), digits.size(), "%.3f", ns / u.ns);
        std::string text = digits.data();
        text.erase(text.find_last_not_of('0') + 1);
        if (text.back() == '.')
            text.pop_back();
        return text + u.name;
    }
    return "0ns";
}

std::string to_text(const std::source_location& where) {
    return std::string{where.file_name()} + ':' + std::to_string(where.line());
}

} // namespace creel::detail
