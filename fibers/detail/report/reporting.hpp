// While it exists, creel makes a report on this thread. The time that takes is creel's, and the
// stall watchdog accuses no fiber of it.
#pragma once

#include <creel/fibers/detail/run/scheduler.hpp>

namespace creel::detail {

// Threads: one. On a thread without a run it does nothing.
class reporting {
public:
    reporting() noexcept {
        if (run_ != nullptr)
            run_->live.begin_report();
    }
    ~reporting() {
        if (run_ != nullptr)
            run_->live.end_report();
    }
    reporting(const reporting&) = delete;
    reporting& operator=(const reporting&) = delete;

private:
    scheduler* const run_ = this_scheduler;
};

} // namespace creel::detail
