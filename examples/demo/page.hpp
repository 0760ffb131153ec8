// What the processes of the demo agree on: who the backends are, what they say, how slow they are.
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
    std::chrono::microseconds fastest; // a usual reply takes from this,
    std::chrono::microseconds slowest; // mostly much less, to this,
    unsigned late_per_mille;           // and so many of a thousand take late_by
    std::chrono::milliseconds late_by;
};

using namespace std::chrono_literals;
inline constexpr std::array<backend_profile, 3> backends{{
    {"catalog", 500us, 4000us, 1, 120ms},
    {"prices", 1000us, 8000us, 2, 150ms},
    {"reviews", 2000us, 16000us, 5, 300ms},
}};

// How long a page waits for its parts; what is later is left out.
inline constexpr std::chrono::milliseconds page_deadline{50};

// splitmix64's finisher (Steele, Lea, Flood 2014): one number to one that looks random, so that the
// same page is slow and says the same in every run.
constexpr std::uint64_t mix(std::uint64_t x) noexcept {
    x += 0x9e3779b97f4a7c15U;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31);
}

// How long the backend thinks about this page.
std::chrono::microseconds thinking_time(std::size_t backend, std::uint64_t id);

// What the backend says of this page: "7 3f84d5b5b5470917".
std::string part_text(std::size_t backend, std::uint64_t id);

// The number in "/page?id=7" if the target is `path` with exactly that query.
std::optional<std::uint64_t> id_in(std::string_view target, std::string_view path);

// "12.3 ms"
std::string to_text(std::chrono::nanoseconds time);

// "1,234,567"
std::string with_commas(std::uint64_t number);

} // namespace demo
