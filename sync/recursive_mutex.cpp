#include <creel/sync/recursive_mutex.hpp>

namespace creel::sync {

void recursive_mutex::lock() {
    if (!owned())
        mutex::lock();
    ++depth_;
}

void recursive_mutex::lock_cancellable() {
    if (owned())
        check_cancel();
    else
        mutex::lock_cancellable();
    ++depth_;
}

bool recursive_mutex::try_lock() noexcept {
    if (!owned() && !mutex::try_lock())
        return false;
    ++depth_;
    return true;
}

// Only the owner may look at the depth; the mutex catches an unlock by another party.
void recursive_mutex::unlock() noexcept {
    if (!owned() || --depth_ == 0)
        mutex::unlock();
}

} // namespace creel::sync
