#include <creel/fibers/detail/run/inbox.hpp>

#include <memory>

namespace creel::detail {

// The push is seq_cst: it is step c of the header's argument. It also publishes the node, and pairs
// with the acquire in deliver_all().
void inbox::post(inbox_node& node) noexcept {
    inbox_node* head = newest_.load(std::memory_order_relaxed);
    do
        node.next_in_inbox = head;
    while (!newest_.compare_exchange_weak(head, &node));
    if (head == nullptr && sleeping_.load())
        kick();
}

void inbox::ring_bell() noexcept {
    bell_.store(true);
    if (sleeping_.load())
        kick();
}

void inbox::kick() noexcept {
    const std::lock_guard lock{kick_mutex_};
    if (outside_ != nullptr)
        outside_->wake();
}

void inbox::kicks(poller* outside) noexcept {
    const std::lock_guard lock{kick_mutex_};
    outside_ = outside;
}

// The link of a node is read before its delivery: after that the node may be gone.
void inbox::deliver_all() noexcept {
    if (!has_nodes())
        return;
    inbox_node* newest = newest_.exchange(nullptr, std::memory_order_acquire);
    inbox_node* oldest = nullptr;
    while (newest != nullptr) { // the stack is turned round: first come, first served
        inbox_node* next = newest->next_in_inbox;
        newest->next_in_inbox = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != nullptr) {
        inbox_node* next = oldest->next_in_inbox;
        oldest->deliver(*oldest);
        oldest = next;
    }
}

void inbox::leave_to_parent(poller* instead) noexcept {
    std::construct_at(&kick_mutex_); // another thread of the parent may have held it
    if (outside_ == nullptr)
        return;
    outside_ = instead;
    sleeping_.store(true);
    newest_.store(nullptr); // the first poster then looks at sleeping_
}

} // namespace creel::detail
