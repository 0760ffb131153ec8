// The time after which a loop of a stress test stops, even if rounds are left: on a slow or busy
// machine a test does less and takes no longer.
#pragma once

#include <chrono>

namespace creel::test {

class time_limit {
public:
    explicit time_limit(std::chrono::milliseconds time = std::chrono::seconds{2})
        : end_(std::chrono::steady_clock::now() + time) {}
    [[nodiscard]] bool passed() const { return std::chrono::steady_clock::now() > end_; }

private:
    std::chrono::steady_clock::time_point end_;
};

} // namespace creel::test
