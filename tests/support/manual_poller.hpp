// A poller without a kernel: a virtual clock, and events that a test puts on it. With it, all of
// fibers/ and sync/ runs deterministically and no test sleeps. This returns at once:
//
//     manual_poller outside;
//     creel::run_scheduler(outside, {}, [&] { creel::this_fiber::sleep_for(1h); });
#pragma once

#include <creel/fibers/poller.hpp>

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>

namespace creel::test {

class manual_poller final : public creel::poller {
public:
    // Whether other threads may call wake(). If not, it is a deadlock when no fiber is ready and
    // there is no event and no deadline: the process ends with a list of the fibers. If they may,
    // it is a deadlock after a minute without a wake.
    enum class other_threads : bool { no, yes };

    explicit manual_poller(other_threads others = other_threads::no) : others_(others) {}

    // Runs f on the scheduler's thread, in wait_until or poll, when the clock has reached `when`. f
    // may wake waiters and cancel scopes, as a poller may.
    void at(creel::time_point when, std::function<void()> f);
    void after(creel::duration d, std::function<void()> f) { at(now_ + d, std::move(f)); }

    // Runs f at the next poll or wait.
    void next_poll(std::function<void()> f) { at(now_, std::move(f)); }

    void advance(creel::duration d) { now_ += d; }

    [[nodiscard]] int polls() const { return polls_; }
    [[nodiscard]] int waits() const { return waits_; }

    creel::time_point now() noexcept override { return now_; }
    void poll() noexcept override;
    void wait_until(creel::time_point deadline) noexcept override;
    void wake() noexcept override;

private:
    bool run_due();

    const other_threads others_;
    creel::time_point now_{std::chrono::hours{1000}};
    std::multimap<creel::time_point, std::function<void()>> events_;
    int polls_ = 0;
    int waits_ = 0;
    std::mutex mutex_;
    std::condition_variable woken_;
    bool wake_latched_ = false; // guarded by mutex_
};

} // namespace creel::test
