#include <creel/sync/condition_variable.hpp>

#include <creel/fibers/assert.hpp>

#include <mutex>

namespace creel::sync {

void condition_variable::enqueue(list_waiter& me) noexcept {
    const std::lock_guard hold{lock_};
    waiting_.push_back(me);
}

void condition_variable::check_owned(bool owned) const noexcept {
    CREEL_ASSERT(owned, lock_.says("waited for with a lock that is not held").c_str());
}

void condition_variable::notify_one() noexcept {
    wake_batch woken;
    const std::lock_guard hold{lock_};
    if (wait_node* first = waiting_.take_front())
        woken.add(*first);
}

void condition_variable::notify_all() noexcept {
    wake_batch woken;
    const std::lock_guard hold{lock_};
    waiting_.take_all(woken);
}

condition_variable_statistics condition_variable::statistics() const noexcept {
    const std::lock_guard hold{lock_};
    return {waiting_.size()};
}

} // namespace creel::sync
