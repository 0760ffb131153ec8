// When to spin before going to sleep: only while that has lately paid.
//
// A wake from another thread that meets a spinning scheduler costs a cache miss; one that meets a
// sleeping one costs two context switches in the kernel. But a spin in which nothing came is
// wasted, and with gaps of 300 us all of them are. So a spin that did not pay is followed by 1,
// then 2, 4, ... rounds that go to sleep at once before the next is tried, and one that paid ends
// the penance. The cap of 25 us and the back-off were measured: longer spins served no more
// requests, and a rule without back-off did not shut itself off.
#pragma once

#include <creel/fibers/time.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace creel::detail {

// Threads: the scheduler's own.
class spin_policy {
public:
    static constexpr duration longest = std::chrono::microseconds{25};
    static constexpr std::uint32_t longest_penance = 1024;
    // One look takes longer than this, so that a look count bounds a spin whose clock stands still.
    static constexpr duration shortest_look = std::chrono::nanoseconds{20};

    void limit(duration longest_spin) noexcept {
        span_ = std::clamp(longest_spin, duration::zero(), longest);
        penance_ = left_ = 0;
    }

    [[nodiscard]] bool enabled() const noexcept { return span_ > duration::zero(); }
    [[nodiscard]] duration span() const noexcept { return span_; }
    [[nodiscard]] std::int64_t looks() const noexcept { return span_ / shortest_look + 1; }

    // Asked once before each sleep: shall this one be tried?
    [[nodiscard]] bool try_it() noexcept {
        if (left_ == 0)
            return enabled();
        --left_;
        return false;
    }
    void ended(bool paid) noexcept {
        penance_ = paid ? 0 : std::clamp(penance_ * 2, 1U, longest_penance);
        left_ = penance_;
    }

private:
    duration span_{};
    std::uint32_t penance_ = 0; // rounds without a spin after the last one
    std::uint32_t left_ = 0;    // of them
};

} // namespace creel::detail
