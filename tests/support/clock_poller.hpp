// A poller that has the real clock, which plain threads use too, and no events. A lost wake ends
// the process after a minute, with a list of the fibers.
#pragma once

#include <creel/fibers/poller.hpp>
#include <creel/fibers/scheduler.hpp>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <utility>

namespace creel::test {

class clock_poller final : public creel::poller {
public:
    creel::time_point now() noexcept override { return creel::clock::now(); }
    void poll() noexcept override {}
    void wait_until(creel::time_point deadline) noexcept override {
        std::unique_lock hold{mutex_};
        const auto limit = creel::clock::now() + std::chrono::minutes{1};
        const auto woken = [&] { return std::exchange(latched_, false); };
        if (woken_.wait_until(hold, std::min(deadline, limit), woken) || deadline <= limit)
            return;
        std::fprintf(stderr, "no fiber was woken for a minute\n%s", creel::list_fibers().c_str());
        std::abort();
    }
    void wake() noexcept override {
        const std::lock_guard hold{mutex_};
        latched_ = true;
        woken_.notify_one();
    }

private:
    std::mutex mutex_;
    std::condition_variable woken_;
    bool latched_ = false; // guarded by mutex_
};

} // namespace creel::test
