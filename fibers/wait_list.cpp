#include <creel/fibers/wait_list.hpp>

#include <creel/fibers/assert.hpp>

#include <new>

namespace creel {

// The next waiter is read first: a woken waiter may be destroyed at once.
void wake_batch::wake_all() noexcept {
    waiter* next = first_;
    first_ = nullptr;
    last_ = nullptr;
    while (next != nullptr) {
        waiter& who = *next;
        next = after(who);
        wake(who);
    }
}

wait_node* wait_list::take_front_claimed() noexcept {
    while (wait_node* taken = first_) {
        unlink_front();
        if (taken->claim_unlinked(*guard_))
            return taken;
    }
    return nullptr;
}

std::size_t wait_list::requeue(wait_list& to, std::size_t most) noexcept {
    CREEL_ASSERT(guard_ == to.guard_, guard_->says("requeued to a list of another lock").c_str());
    std::size_t moved = 0;
    for (; moved < most && first_ != nullptr; ++moved) {
        wait_node& node = *first_;
        unlink_front();
        to.insert(node, to.last_, nullptr);
    }
    return moved;
}

void wait_list::destroyed_while_waited_on() const noexcept {
    std::string text = "destroyed while somebody waits on it"; // and as much more as can be said
    try {
        text += ", " + name_of_waiting(first_->who()) +
                ": declare it outside with_nursery, or join() the nursery before it goes";
    } catch (const std::bad_alloc&) {
    }
    text = guard_->says(text.c_str());
    assertion_failed("nobody waits", text.c_str(), std::source_location::current());
}

} // namespace creel
