// When to spin before going to sleep: only while that has lately paid.
//
// A wake from another thread costs a cache miss if it meets a spinning scheduler, and two context
// switches in the kernel if it meets a sleeping one. But a spin in which nothing came is wasted,
// and with gaps of 300 us all spins are wasted. So after a spin that did not pay, 1, then 2, 4, ...
// rounds go to sleep at once before the next spin is tried. A spin that paid ends the penance. The
// cap of 25 us and the back-off were measured: longer spins served no more requests, and a rule
// without back-off did not shut itself off.
//
//   spin is tried -- 1 ended(true) ----> penance 0: the next spin is tried
//   spin is tried -- 2 ended(false) ---> penance 1, 2, 4, ... 1,024 rounds
//   penance -------- 3 try_it() -------> one round less; at 0 the next spin is tried
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
    // One look takes longer than this. So a count of looks bounds a spin while the clock stands
    // still.
    static constexpr duration shortest_look = std::chrono::nanoseconds{20};

    void limit(duration longest_spin) noexcept {
        span_ = std::clamp(longest_spin, duration::zero(), longest);
        penance_ = left_ = 0;
    }

    [[nodiscard]] bool enabled() const noexcept { return span_ > duration::zero(); }
    [[nodiscard]] duration span() const noexcept { return span_; }
    [[nodiscard]] std::int64_t looks() const noexcept { return span_ / shortest_look + 1; }

    // Asked once before each sleep: true if a spin is to be tried first.
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
    std::uint32_t left_ = 0;    // how many of them are left
};

} // namespace creel::detail
