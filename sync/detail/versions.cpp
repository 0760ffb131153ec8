#include <creel/sync/detail/versions.hpp>

namespace creel::sync::detail {

// A wake only tells that there is a version. The caller reads that under the lock, so that a wake
// and a cancel need not be told apart.
std::unique_lock<wait_lock> versions::wait_for_more_than(std::uint64_t seen) {
    check_cancel();
    for (;;) {
        list_waiter me{plain_wait};
        std::unique_lock hold{guard};
        if (newest > seen || closed)
            return hold;
        waiting.push_back(me);
        hold.unlock();
        me.wait();
    }
}

void versions::close() noexcept {
    wake_batch to_wake;
    const std::lock_guard hold{guard};
    closed = true;
    waiting.take_all(to_wake);
}

} // namespace creel::sync::detail
