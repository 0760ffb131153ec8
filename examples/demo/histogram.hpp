// Latencies in a fixed number of counters, with an error below 1/128: it can count for days. The
// idea is that of Gil Tene's HdrHistogram: a linear scale within each power of two.
#pragma once

#include <array>
#include <bit>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace demo {

class histogram {
public:
    void add(std::chrono::nanoseconds time) noexcept {
        auto value = static_cast<std::uint64_t>(time.count() < 0 ? 0 : time.count());
        ++counts_[index_of(value)];
        ++total_;
        max_ = time > max_ ? time : max_;
    }

    [[nodiscard]] std::uint64_t total() const noexcept { return total_; }
    [[nodiscard]] std::chrono::nanoseconds max() const noexcept { return max_; }

    // Returns the time that this part of all (0.99) did not exceed, rounded up, but not above
    // max().
    [[nodiscard]] std::chrono::nanoseconds percentile(double part) const noexcept {
        auto wanted = static_cast<std::uint64_t>(part * static_cast<double>(total_));
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < counts_.size(); ++i)
            if ((seen += counts_[i]) > wanted) {
                std::chrono::nanoseconds upper{static_cast<std::int64_t>(upper_end_of(i))};
                return upper < max_ ? upper : max_;
            }
        return max_;
    }

private:
    static constexpr unsigned bits = 7; // of precision

    static std::size_t index_of(std::uint64_t value) noexcept {
        auto width = static_cast<unsigned>(std::bit_width(value));
        unsigned shift = width > bits + 1 ? width - bits - 1 : 0;
        return (std::size_t{shift} << bits) + static_cast<std::size_t>(value >> shift);
    }

    static std::uint64_t upper_end_of(std::size_t index) noexcept {
        if (index < (std::size_t{2} << bits))
            return index;
        auto shift = static_cast<unsigned>((index >> bits) - 1);
        std::uint64_t mantissa = index - (std::size_t{shift} << bits);
        return ((mantissa + 1) << shift) - 1;
    }

    std::array<std::uint64_t, std::size_t{58} << bits> counts_{}; // 59 KiB: not for a fiber's stack
    std::uint64_t total_ = 0;
    std::chrono::nanoseconds max_{0};
};

} // namespace demo
