#include "page.hpp"

#include <charconv>
#include <cstdio>

namespace demo {

std::chrono::microseconds thinking_time(std::size_t backend, std::uint64_t id) {
    const backend_profile& profile = backends[backend];
    std::uint64_t random = mix(id ^ mix(backend + 1));
    if (random % 1000 < profile.late_per_mille)
        return profile.late_by;
    // The cube of a uniform number gives many fast replies and a long tail.
    double uniform = static_cast<double>(random >> 11) / 9007199254740992.0; // 2^53
    std::chrono::duration<double, std::micro> spread = profile.slowest - profile.fastest;
    return profile.fastest + std::chrono::duration_cast<std::chrono::microseconds>(
                                 spread * (uniform * uniform * uniform));
}

std::string part_text(std::size_t backend, std::uint64_t id) {
    std::array<char, 64> text;
    int length =
        std::snprintf(text.data(), text.size(), "%llu %016llx", static_cast<unsigned long long>(id),
                      static_cast<unsigned long long>(mix(mix(id) + backend)));
    return {text.data(), static_cast<std::size_t>(length)};
}

std::optional<std::uint64_t> id_in(std::string_view target, std::string_view path) {
    constexpr std::string_view key = "?id=";
    if (!target.starts_with(path) || !target.substr(path.size()).starts_with(key))
        return {};
    std::string_view digits = target.substr(path.size() + key.size());
    std::uint64_t id = 0;
    auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
    if (error != std::errc{} || end != digits.data() + digits.size())
        return {};
    return id;
}

std::string to_text(std::chrono::nanoseconds time) {
    std::array<char, 32> text;
    int length =
        std::snprintf(text.data(), text.size(), "%.1f ms", static_cast<double>(time.count()) / 1e6);
    return {text.data(), static_cast<std::size_t>(length)};
}

std::string with_commas(std::uint64_t number) {
    std::string text = std::to_string(number);
    for (std::size_t at = text.size(); at > 3;)
        text.insert(at -= 3, ",");
    return text;
}

} // namespace demo
