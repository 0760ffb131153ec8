#include <creel/io/detail/ring/ring_inbox.hpp>

#include <utility>

namespace creel::io::detail {

bool ring_inbox::post(inbox_node& node) {
    if (is_parents())
        return false;
    const std::lock_guard lock{mutex_};
    if (owner_ == nullptr)
        return false;
    node.next_in_inbox = std::exchange(newest_, &node);
    owner_->wake(); // under the lock: the owner cannot end meanwhile
    return true;
}

bool ring_inbox::has_owner() {
    if (is_parents())
        return false;
    const std::lock_guard lock{mutex_};
    return owner_ != nullptr;
}

void ring_inbox::deliver() noexcept {
    inbox_node* node = nullptr;
    {
        const std::lock_guard lock{mutex_};
        node = std::exchange(newest_, nullptr);
    }
    while (node != nullptr) {
        inbox_node* next = node->next_in_inbox;
        node->deliver(*node);
        node = next;
    }
}

void ring_inbox::owner_ends() noexcept {
    const std::lock_guard lock{mutex_};
    owner_ = nullptr;
}

} // namespace creel::io::detail
