#pragma once

// Lets `burst` through at once, and `rate` per second in the long run, first come first served
// (the generic cell rate algorithm, ITU-T I.371).

#include "sleep.hpp"

#include <algorithm>
#include <chrono>

namespace same_job::coroutine {

class rate_limiter {
public:
    rate_limiter(double rate, unsigned burst) noexcept
        : interval_(
              std::chrono::duration_cast<clock::duration>(std::chrono::duration<double>{1 / rate})),
          tolerance_(interval_ * (burst - 1)) {}

    // co_await. A cancelled wait has used up its turn.
    [[nodiscard]] auto acquire() noexcept {
        struct awaiter : sleep_until {
            awaiter(clock::time_point when, bool now) noexcept : sleep_until(when), ready(now) {}
            [[nodiscard]] bool await_ready() const noexcept { return ready; }
            bool ready;
        };
        const auto now = clock::now();
        const auto mine = std::max(next_, now);
        next_ = mine + interval_;
        return awaiter{mine - tolerance_, mine - tolerance_ <= now};
    }

private:
    clock::duration interval_;
    clock::duration tolerance_;
    clock::time_point next_{};
};

} // namespace same_job::coroutine
