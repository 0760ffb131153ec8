// How the memory of a burst goes back to the system: by time, whatever goes on meanwhile.
//
// Time is cut into periods. What lay idle through a whole one is given back at its end: within two
// periods after a burst all of it, while a load that comes back in every period keeps what it
// needs. It goes in portions, one at each poll, so that nothing that becomes ready waits long.
//
// Most of that costs nothing: a poll has read the clock, and compares. A thread that would go to
// sleep with something to give back sleeps until the end of the period at most; with nothing to
// give back it sleeps until somebody wakes it, so an idle process stays idle.
#include <creel/fibers/detail/run/scheduler.hpp>

#include <algorithm>
#include <chrono>

namespace creel::detail {

namespace {

constexpr duration trim_period = std::chrono::milliseconds{300};

// Idle carriers that stay when nothing is going on, with so much of their stacks: far more than the
// frames of one that lies idle.
constexpr std::size_t kept_carriers = 64;
constexpr std::size_t kept_depth_bytes = 16 * 1024;

// One portion, well below a millisecond where stacks are used a page or two deep.
constexpr std::size_t most_carriers_at_once = 256;
constexpr std::size_t most_stack_bytes_at_once = std::size_t{64} << 20;

} // namespace

void scheduler::trim() noexcept {
    if (unneeded_carriers_ != 0)
        return; // the last portion is still in the ready queue
    const std::size_t kept = std::min(idle_count_, kept_carriers);
    const std::size_t ended = std::min({idle_low_, idle_count_ - kept, most_carriers_at_once});
    end_idle(ended);
    idle_low_ -= ended;
    unneeded_carriers_ += ended;
    if (stacks_->trim_unneeded(most_stack_bytes_at_once) != 0 || ended != 0) {
        next_trim_ = last_poll_; // there may be more: at the next poll
        return;
    }
    make_shallow();
    cool_tasks(std::min(warm_task_count_, warm_tasks_at_trim_));
    nodes_->trim();
    timers_.trim();
    begin_period();
}

void scheduler::begin_period() noexcept {
    idle_low_ = idle_count_;
    warm_tasks_at_trim_ = warm_task_count_;
    stacks_->begin_period();
    next_trim_ = last_poll_ + trim_period;
}

// Of the carriers that stay and were not needed, stacks that had gone deep. The last in line were
// not: the first is always the next to be used.
void scheduler::make_shallow() noexcept {
    const std::size_t shallow = std::min(shallow_idle_, idle_low_);
    shallow_idle_ = idle_low_;
    if (shallow == idle_low_)
        return;
    const fiber_record* f = idle_;
    for (std::size_t left = idle_count_; left != shallow; --left, f = f->next_idle)
        if (left <= idle_low_)
            stack_pool::discard_below(f->stack, kept_depth_bytes);
}

// Or may have some at the end of this period or the next: what a moment ago was in use counts.
bool scheduler::has_surplus() const noexcept {
    return idle_count_ > kept_carriers || idle_count_ > std::min(shallow_idle_, idle_low_) ||
           stacks_->has_warm() || warm_task_count_ != 0 || nodes_->has_surplus() ||
           timers_.has_surplus();
}

} // namespace creel::detail
