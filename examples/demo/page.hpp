// The facts that all processes of the demo share: the backends, their texts and their delays.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace demo {

struct backend_profile {
    std::string_view name;
    std::chrono::microseconds fastest; // the least time of a usual reply
    std::chrono::microseconds slowest; // the most; most replies are much faster
    unsigned late_per_mille;           // of a thousand replies, this number takes late_by
    std::chrono::milliseconds late_by;
};

using namespace std::chrono_literals;
inline constexpr std::array<backend_profile, 3> backends{{
    {"catalog", 500us, 4000us, 1, 120ms},
    {"prices", 1000us, 8000us, 2, 150ms},
    {"reviews", 2000us, 16000us, 5, 300ms},
}};

// How long a page waits for its parts. Later parts are left out.
inline constexpr std::chrono::milliseconds page_deadline{50};

// splitmix64's finisher (Steele, Lea, Flood 2014): maps a number to one that looks random, so that
// a page has the same delay and the same text in each run.
constexpr std::uint64_t mix(std::uint64_t x) noexcept {
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

// Returns how long the backend thinks about this page.
std::chrono::microseconds thinking_time(std::size_t backend, std::uint64_t id);

// Returns the backend's text for this page: "7 3f84d5b5b5470917".
std::string part_text(std::size_t backend, std::uint64_t id);

// Returns the number in "/page?id=7" if the target is `path` with exactly this query.
std::optional<std::uint64_t> id_in(std::string_view target, std::string_view path);

// "12.3 ms"
std::string to_text(std::chrono::nanoseconds time);

// "1,234,567"
std::string with_commas(std::uint64_t number);

} // namespace demo
