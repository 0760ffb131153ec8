// Counts durations in buckets that double: the shape of a latency in 320 bytes.
#pragma once

#include <creel/fibers/time.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace creel {

// Threads: one at a time.
struct latency_histogram {
    static constexpr std::size_t bucket_count = 40;

    // counts[i] counts durations of at least 2^(i-1) and less than 2^i nanoseconds. counts[0]
    // counts zeros, the last one counts all from 4.6 minutes on.
    std::array<std::uint64_t, bucket_count> counts{};

    // A negative duration counts as zero.
    void add(saturating_duration d) noexcept {
        const auto ns = d > duration{} ? static_cast<std::uint64_t>(d.count()) : 0;
        const auto bucket = static_cast<std::size_t>(std::bit_width(ns));
        ++counts[bucket < bucket_count ? bucket : bucket_count - 1];
    }

    [[nodiscard]] std::uint64_t total() const noexcept {
        std::uint64_t all = 0;
        for (const std::uint64_t count : counts)
            all += count;
        return all;
    }

    // A duration below which at least this share (0 to 1) of the durations lies. It is at most
    // twice the exact quantile. Zero if no duration was counted.
    [[nodiscard]] duration quantile(double share) const noexcept {
        const auto wanted = share * static_cast<double>(total());
        std::uint64_t seen = 0;
        for (std::size_t i = 0; i < bucket_count; ++i) {
            seen += counts[i];
            if (counts[i] != 0 && static_cast<double>(seen) >= wanted)
                return duration{std::int64_t{1} << i};
        }
        return {};
    }
};

} // namespace creel
