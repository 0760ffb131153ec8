#include <creel/sync/event.hpp>

#include <mutex>

namespace creel::sync {

void event::set() noexcept {
    if (automatic_) {
        lock_.lock();
        wait_node* next = waiting_.take_front();
        if (next == nullptr)
            set_ = true;
        lock_.unlock();
        if (next != nullptr)
            wake(next->who());
        return;
    }
    wake_batch to_wake;
    const std::lock_guard hold{lock_};
    set_ = true;
    waiting_.take_all(to_wake);
}

void event::reset() noexcept {
    const std::lock_guard hold{lock_};
    set_ = false;
}

// The lock is taken even when the event is set: set() has then finished with the event, so that the
// caller may destroy it.
bool event::try_wait() noexcept {
    const std::lock_guard hold{lock_};
    const bool was_set = set_;
    set_ = was_set && !automatic_;
    return was_set;
}

void event::wait() {
    check_cancel();
    list_waiter me{plain_wait};
    lock_.lock();
    if (set_) {
        set_ = !automatic_;
        lock_.unlock();
        return;
    }
    waiting_.push_back(me);
    lock_.unlock();
    me.wait();
}

bool event::is_set() const noexcept {
    const std::lock_guard hold{lock_};
    return set_;
}

event_statistics event::statistics() const noexcept {
    const std::lock_guard hold{lock_};
    return {set_, waiting_.size()};
}

} // namespace creel::sync
