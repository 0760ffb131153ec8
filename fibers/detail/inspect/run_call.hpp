// A short call that another thread makes on a run's own thread: at the run's next poll, between two
// of its fibers, on the stack of any of them.
//
//   posted -- 1 the run's inbox delivers it --> done    `work` has been called
//
// The poster and the run hold it together, and the last of them deletes it: a thread that is
// stalled may come to it long after the poster has gone on.
#pragma once

#include <creel/fibers/detail/system/futex.hpp>
#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace creel::detail {

class scheduler;

// Work is called once with the scheduler; it throws nothing and does not switch.
template <typename Work>
class run_call : inbox_node {
public:
    struct letting_go {
        void operator()(run_call* c) const noexcept { c->release(); }
    };
    using pointer = std::unique_ptr<run_call, letting_go>;

    run_call(const run_call&) = delete;
    run_call& operator=(const run_call&) = delete;

    // To a run that is listed, and stays so meanwhile: see live_runs.hpp.
    // Threads: any. Throws: std::bad_alloc, what the move of Work throws.
    template <typename Scheduler>
    static pointer post(Scheduler& to, Work work) {
        pointer posted{new run_call{to, std::move(work)}};
        posted->holders_.store(2, std::memory_order_relaxed); // the inbox orders it
        to.incoming().post(*posted);
        return posted;
    }

    // True when the work is done, false when the deadline has passed before.
    // Parks: it blocks the thread. Threads: the poster's.
    [[nodiscard]] bool await(time_point deadline) noexcept {
        while (done_.load(std::memory_order_acquire) == 0) { // pairs with the store of the run
            if (clock::now() >= deadline)
                return false;
            futex_wait(done_, 0, deadline);
        }
        return true;
    }

    Work work; // the run's, until await() has returned true

private:
    run_call(scheduler& to, Work&& w) : work(std::move(w)), home_(to) {
        deliver = [](inbox_node& node) noexcept {
            auto& self = static_cast<run_call&>(node);
            self.work(self.home_);
            self.done_.store(1, std::memory_order_release);
            futex_wake_all(self.done_);
            self.release();
        };
    }
    ~run_call() = default;

    void release() noexcept {
        if (holders_.fetch_sub(1) == 1)
            delete this;
    }

    scheduler& home_;
    std::atomic<std::uint32_t> done_{0};
    std::atomic<int> holders_{1};
};

} // namespace creel::detail
