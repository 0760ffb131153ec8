#pragma once

// The summary of a figure over all rounds, and a latency histogram that costs one increment per
// sample.

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace creel::bench {

struct summary {
    double median = 0;
    double min = 0;
    double max = 0;
};

// The median of an even number of values is the mean of the middle two. Throws: std::logic_error
// when there is no value.
summary summarise(std::vector<double> values);

// The summary of mine[i] / other[i] over the rounds that gave both values; NaN stands for a round
// that gave none. What slows the machine for some seconds slows both of a pair, so the median of
// the ratios is steadier than the ratio of two medians. Empty when no round gave both.
std::optional<summary> summarise_ratios(const std::vector<double>& mine,
                                        const std::vector<double>& other);

// Counts nanoseconds in log-linear buckets: 128 per power of two, exact below 256 ns. A bucket is
// at most 1/128 of its value wide, and its middle stands for it, so the error of a percentile is
// less than 0.4%. Values above 2^40 ns (18 minutes) count in the last bucket.
class latency_histogram {
public:
    void record(std::uint64_t nanoseconds) noexcept {
        ++buckets_[bucket_of(nanoseconds)];
        ++count_;
    }

    void clear() noexcept;
    [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

    // Returns the smallest recorded value that at least `share` (0 to 1) of the samples do not
    // exceed, or 0 when there is no sample.
    [[nodiscard]] double percentile(double share) const noexcept;

private:
    static constexpr unsigned sub_bits = 7;
    static constexpr unsigned top_bit = 40;
    static constexpr std::size_t bucket_count = std::size_t{top_bit - sub_bits + 1} << sub_bits;

    // The bucket depends on the highest bit of the value and the 7 bits below it. These 8 bits are
    // 128 to 255, so the buckets of consecutive octaves follow each other without a gap.
    static std::size_t bucket_of(std::uint64_t nanoseconds) noexcept {
        const auto width = static_cast<unsigned>(std::bit_width(nanoseconds | 1));
        if (width <= sub_bits + 1)
            return static_cast<std::size_t>(nanoseconds);
        const unsigned shift = width - (sub_bits + 1);
        const std::size_t bucket =
            (std::size_t{shift} << sub_bits) + static_cast<std::size_t>(nanoseconds >> shift);
        return bucket < bucket_count ? bucket : bucket_count - 1;
    }

    static double middle_of(std::size_t bucket) noexcept;

    std::array<std::uint32_t, bucket_count> buckets_{};
    std::uint64_t count_ = 0;
};

} // namespace creel::bench
