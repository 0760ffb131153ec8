#include <creel/sync/latch.hpp>

#include <creel/fibers/assert.hpp>

#include <mutex>

namespace creel::sync {

struct latch::arrival : list_waiter {
    arrival(latch& l, std::ptrdiff_t n) noexcept : list_waiter(arrival_kind), of(&l), by(n) {}
    latch* of;
    std::ptrdiff_t by;
};

constexpr wait_kind latch::arrival_kind{true, &latch::left};

// The waiter was in the list, so the count is not zero.
void latch::left(list_waiter& who, wait_list&, wake_batch&) noexcept {
    const auto& self = static_cast<arrival&>(who);
    self.of->count_ += self.by;
}

latch::latch(std::ptrdiff_t expected, std::source_location made_at)
    : lock_("latch", made_at), count_(expected) {
    CREEL_ASSERT(expected >= 0, lock_.says("a count must not be negative").c_str());
}

void latch::subtract(std::ptrdiff_t by, wake_batch& to_wake) noexcept {
    CREEL_ASSERT(by >= 0 && by <= count_, lock_.says("counted down by more than is left").c_str());
    count_ -= by;
    if (count_ == 0)
        waiting_.take_all(to_wake);
}

void latch::count_down(std::ptrdiff_t by) noexcept {
    wake_batch to_wake;
    const std::lock_guard hold{lock_};
    subtract(by, to_wake);
}

// The lock is taken even when the count is zero: count_down() has then finished with the latch, so
// that the caller may destroy it.
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
    check_cancel();
    arrival me{*this, by};
    {
        wake_batch to_wake;
        const std::lock_guard hold{lock_};
        subtract(by, to_wake);
        if (count_ == 0)
            return;
        waiting_.push_back(me);
    }
    me.wait();
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
