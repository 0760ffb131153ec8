#include <creel/sync/barrier.hpp>

#include <creel/fibers/assert.hpp>

#include <mutex>
#include <utility>

namespace creel::sync {

struct barrier::member : list_waiter {
    member(barrier& b, const wait_kind& kind) noexcept : list_waiter(kind), of(&b) {}
    barrier* of;
};

// For waiters of arrive_and_wait: a waiter that withdraws takes its arrival back.
constexpr wait_kind barrier::member_kind{true, &barrier::left};

void barrier::left(list_waiter& who, wait_list&, wake_batch&) noexcept {
    ++static_cast<member&>(who).of->missing_;
}

barrier::barrier(std::ptrdiff_t expected, std::function<void()> completion,
                 std::source_location made_at)
    : lock_("barrier", made_at),
      expected_(expected),
      missing_(expected),
      completion_(std::move(completion)) {
    CREEL_ASSERT(expected > 0, lock_.says("at least one must be expected").c_str());
}

bool barrier::count_in() noexcept {
    CREEL_ASSERT(missing_ > 0, lock_.says("more have arrived than were expected").c_str());
    return --missing_ == 0;
}

// Only the last caller to arrive is here: no other caller can arrive before the phase is over. The
// waiters are off the list by then (in `to_wake`), because no cancel may undo an arrival any more.
// Callers of arrive() may begin to wait meanwhile; they are taken at the end.
void barrier::complete(wake_batch& to_wake) noexcept {
    if (completion_)
        completion_();
    const std::lock_guard hold{lock_};
    ++phase_;
    expected_ -= std::exchange(dropped_, 0);
    missing_ = expected_;
    waiting_.take_all(to_wake);
}

void barrier::arrive_and_wait() {
    check_cancel();
    wake_batch to_wake;
    member me{*this, member_kind};
    lock_.lock();
    const bool is_last = count_in();
    if (is_last)
        waiting_.take_all(to_wake);
    else
        waiting_.push_back(me);
    lock_.unlock();
    if (is_last)
        complete(to_wake);
    else
        me.wait();
}

barrier::arrival_token barrier::arrive(bool for_the_last_time) {
    wake_batch to_wake;
    lock_.lock();
    const arrival_token token{phase_};
    const bool is_last = count_in();
    if (for_the_last_time)
        ++dropped_;
    if (is_last)
        waiting_.take_all(to_wake);
    lock_.unlock();
    if (is_last)
        complete(to_wake);
    return token;
}

void barrier::wait(arrival_token arrived) {
    check_cancel();
    list_waiter me{plain_wait};
    {
        const std::lock_guard hold{lock_};
        if (phase_ != arrived.phase_)
            return;
        waiting_.push_back(me);
    }
    me.wait();
}

barrier_statistics barrier::statistics() const noexcept {
    const std::lock_guard hold{lock_};
    return {expected_, expected_ - missing_, waiting_.size(), phase_};
}

} // namespace creel::sync
