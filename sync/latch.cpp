#include <creel/sync/latch.hpp>

#include <creel/fibers/assert.hpp>

#include <mutex>

namespace creel::sync {

latch::latch(std::ptrdiff_t expected, std::source_location made_at)
    : lock_("latch", made_at), count_(expected) {
    CREEL_ASSERT(expected >= 0, lock_.says("a count must not be negative").c_str());
}

void latch::subtract(std::ptrdiff_t by, wake_batch& woken) noexcept {
    CREEL_ASSERT(by >= 0 && by <= count_, lock_.says("counted down by more than is left").c_str());
    count_ -= by;
    if (count_ == 0)
        waiting_.take_all(woken);
}

void latch::count_down(std::ptrdiff_t by) noexcept {
    wake_batch woken;
    const std::lock_guard hold{lock_};
    subtract(by, woken);
}

// The lock is taken also to see that the count is zero: count_down() has then let go of the latch,
// and the caller may destroy it.
void latch::wait() {
    check_cancel();
    list_waiter me{plain_wait};
    {
        const std::lock_guard hold{lock_};
        if (count_ == 0)
            return;
        waiting_.push_back(me);
    }
    me.wait();
}

void latch::arrive_and_wait(std::ptrdiff_t by) {
    count_down(by);
    wait();
}

bool latch::try_wait() const noexcept {
    const std::lock_guard hold{lock_};
    return count_ == 0;
}

latch_statistics latch::statistics() const noexcept {
    const std::lock_guard hold{lock_};
    return {count_, waiting_.size()};
}

} // namespace creel::sync
