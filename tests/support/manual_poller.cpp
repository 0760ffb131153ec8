#include "support/manual_poller.hpp"

#include <creel/fibers/scheduler.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

namespace creel::test {

namespace {
[[noreturn]] void report_deadlock() {
    std::fprintf(stderr, "deadlock: nothing is ready, no timer is armed, no event will come\n%s",
                 creel::list_fibers().c_str());
    std::abort();
}
} // namespace

void manual_poller::at(creel::time_point when, std::function<void()> f) {
    events_.emplace(std::max(when, now_), std::move(f));
}

bool manual_poller::run_due() {
    bool ran = false;
    while (!events_.empty() && events_.begin()->first <= now_) {
        const auto f = std::move(events_.begin()->second);
        events_.erase(events_.begin());
        f();
        ran = true;
    }
    return ran;
}

void manual_poller::poll() noexcept {
    ++polls_;
    run_due();
}

void manual_poller::wait_until(creel::time_point deadline) noexcept {
    ++waits_;
    if (run_due())
        return;
    std::unique_lock lock{mutex_};
    if (wake_latched_) {
        wake_latched_ = false;
        return;
    }
    const auto next = events_.empty() ? creel::time_point::max() : events_.begin()->first;
    if (const auto until = std::min(next, deadline); until != creel::time_point::max()) {
        lock.unlock();
        now_ = std::max(now_, until);
        run_due();
        return;
    }
    if (others_ == other_threads::no)
        report_deadlock();
    if (!woken_.wait_for(lock, std::chrono::minutes{1}, [&] { return wake_latched_; }))
        report_deadlock();
    wake_latched_ = false;
}

void manual_poller::wake() noexcept {
    const std::lock_guard lock{mutex_};
    wake_latched_ = true;
    woken_.notify_one();
}

} // namespace creel::test
