// How the memory of a burst goes back to the system: by time, also if the thread is never idle.
//
// Time is cut into periods. Memory that lay idle through a whole period is given back at its end.
// So within two periods after a burst all of it is given back, while a load that comes back in
// every period keeps the memory that it needs. It goes in portions, one at each poll, so that no
// fiber that becomes ready waits long.
//
//   period -- 1 take_in(): next_trim_ has come, trim() --> giving back   carriers end, stacks go
//   giving back -- 2 trim() at the next poll ------------> giving back   there is another portion
//   giving back -- 3 trim(): no portion is left ---------> period        begin_period()
//
// Most of that costs nothing: a poll has read the clock, and compares. A thread that would go to
// sleep with something to give back sleeps until the end of the period at most. With nothing to
// give back it sleeps until it is woken, so an idle process stays idle.
#include <creel/fibers/detail/run/scheduler.hpp>

#include <chrono>

namespace creel::detail {

namespace {

constexpr duration trim_period = std::chrono::milliseconds{300};

// One portion, well below a millisecond where stacks are used a page or two deep.
constexpr std::size_t most_stack_bytes_at_once = std::size_t{64} << 20;

} // namespace

void scheduler::trim() noexcept {
    if (carriers_.unneeded_are_ending())
        return; // the last portion is still in the ready queue
    const std::size_t ended = carriers_.end_unneeded(ready_);
    if (stacks_->trim_unneeded(most_stack_bytes_at_once) != 0 || ended != 0) {
        next_trim_ = last_poll_; // there may be more: at the next poll
        return;
    }
    carriers_.make_shallow();
    tasks_.trim();
    timers_.trim();
    begin_period();
}

void scheduler::begin_period() noexcept {
    carriers_.begin_period();
    tasks_.begin_period();
    stacks_->begin_period();
    next_trim_ = last_poll_ + trim_period;
}

// True if there is something to give back at the end of this period or the next.
bool scheduler::has_surplus() const noexcept {
    return carriers_.has_surplus() || stacks_->has_warm() || tasks_.has_surplus() ||
           timers_.has_surplus();
}

} // namespace creel::detail
