#include "statistics.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>

namespace creel::bench {

summary summarise(std::vector<double> values) {
    if (values.empty())
        throw std::logic_error("summarise: no values");
    std::sort(values.begin(), values.end());
    const std::size_t middle = values.size() / 2;
    const double median =
        values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
    return {median, values.front(), values.back()};
}

std::optional<summary> summarise_ratios(const std::vector<double>& mine,
                                        const std::vector<double>& other) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < mine.size() && i < other.size(); ++i)
        if (const double ratio = mine[i] / other[i]; !std::isnan(ratio))
            ratios.push_back(ratio);
    if (ratios.empty())
        return std::nullopt;
    return summarise(std::move(ratios));
}

void latency_histogram::clear() noexcept {
    buckets_.fill(0);
    count_ = 0;
}

double latency_histogram::percentile(double share) const noexcept {
    if (count_ == 0)
        return 0;
    const auto wanted = static_cast<std::uint64_t>(
        std::ceil(std::clamp(share, 0.0, 1.0) * static_cast<double>(count_)));
    std::uint64_t seen = 0;
    for (std::size_t bucket = 0; bucket < buckets_.size(); ++bucket) {
        seen += buckets_[bucket];
        if (seen >= wanted && seen != 0)
            return middle_of(bucket);
    }
    return middle_of(buckets_.size() - 1);
}

double latency_histogram::middle_of(std::size_t bucket) noexcept {
    if (bucket < (std::size_t{2} << sub_bits))
        return static_cast<double>(bucket);
    const std::size_t shift = (bucket >> sub_bits) - 1;
    const std::uint64_t low = static_cast<std::uint64_t>(bucket - (shift << sub_bits)) << shift;
    const std::uint64_t width = std::uint64_t{1} << shift;
    return static_cast<double>(low) + static_cast<double>(width - 1) / 2;
}

} // namespace creel::bench
