#include <creel/fibers/list_waiter.hpp>

#include <creel/fibers/wait_list.hpp>

#include <mutex>

namespace creel {

// A waiter that is off its list was handed something: its wake is on the way.
withdrawal list_waiter::withdraw(waiter& w, wake_reason) noexcept {
    auto& self = static_cast<list_waiter&>(w);
    wake_batch to_wake;
    wait_list* from = self.leave_list();
    if (from == nullptr)
        return withdrawal::pending;
    const std::lock_guard hold{from->guard(), std::adopt_lock};
    if (const auto left = static_cast<const wait_kind&>(self.kind()).left; left != nullptr)
        left(self, *from, to_wake);
    return withdrawal::withdrawn;
}

void list_waiter::describe(const waiter& w, std::string& text) {
    static_cast<const list_waiter&>(w).describe_list(text);
}

} // namespace creel
