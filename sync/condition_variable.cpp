#include <creel/sync/condition_variable.hpp>

#include <creel/fibers/assert.hpp>

#include <mutex>
#include <string>

namespace creel::sync {

void condition_variable::enqueue(list_waiter& me) noexcept {
    const std::lock_guard hold{lock_};
    waiting_.push_back(me);
}

// Returns the error of a cancel instead of throwing it: the caller must take the lock again before
// the throw, and must not wait for it inside a handler.
std::exception_ptr condition_variable::yield() noexcept {
    try {
        check_cancel();
    } catch (...) {
        return std::current_exception();
    }
    return nullptr;
}

void condition_variable::not_owned() const noexcept {
    const std::string text = lock_.says("waited for with a lock that is not held");
    assertion_failed("lock.owns_lock()", text.c_str(), std::source_location::current());
}

void condition_variable::notify_one() noexcept {
    wake_batch to_wake;
    const std::lock_guard hold{lock_};
    if (wait_node* first = waiting_.take_front())
        to_wake.add(*first);
}

void condition_variable::notify_all() noexcept {
    wake_batch to_wake;
    const std::lock_guard hold{lock_};
    waiting_.take_all(to_wake);
}

condition_variable_statistics condition_variable::statistics() const noexcept {
    const std::lock_guard hold{lock_};
    return {waiting_.size()};
}

} // namespace creel::sync
