#include <creel/fibers/wait_node.hpp>

#include <creel/fibers/wait_list.hpp>

#include <mutex>

namespace creel {

// Succeeds only while the node is linked, so the lock exists. A thread that takes the node off
// after that tells the lock, which then stays until the pinned node has been seen to. The load
// acquires also where it reads `nowhere`: the thread that took the node off does not touch it any
// more, nor the claim, which may be destroyed now.
wait_lock* wait_node::pin() const noexcept {
    place seen = place_.load(std::memory_order_acquire);
    while (seen != nowhere &&
           !place_.compare_exchange_weak(seen, seen | pinned, std::memory_order_acquire)) {
    }
    return reinterpret_cast<wait_lock*>(seen);
}

void wait_node::unpin(wait_lock& lock) const noexcept {
    place seen = place_at(lock) | pinned;
    if (place_.compare_exchange_strong(seen, place_at(lock), std::memory_order_release,
                                       std::memory_order_relaxed))
        return;
    const std::lock_guard hold{lock};
    place_.store(nowhere, std::memory_order_relaxed);
    lock.late_withdrawal_came();
}

wait_list* wait_node::leave_list() noexcept {
    wait_lock* const lock = pin();
    if (lock == nullptr)
        return nullptr;
    lock->lock();
    const place seen = place_.load(std::memory_order_relaxed);
    place_.store(nowhere, std::memory_order_relaxed);
    if ((seen & taken) != 0) {
        lock->late_withdrawal_came();
        lock->unlock();
        return nullptr;
    }
    list_->unlink(*this);
    return list_;
}

// The claim comes first: after the store to the place the waiter may destroy the node at once.
// Release pairs with the acquire in pin().
bool wait_node::claim_unlinked(wait_lock& lock) noexcept {
    const bool is_ours = claim_ == nullptr || claim_->try_claim(this);
    place seen = place_.load(std::memory_order_relaxed);
    while (!place_.compare_exchange_weak(seen, (seen & pinned) != 0 ? seen | taken : nowhere,
                                         std::memory_order_release, std::memory_order_relaxed)) {
    }
    if ((seen & pinned) != 0)
        lock.withdrawal_is_late();
    return is_ours;
}

void wait_node::describe_list(std::string& text) const {
    if (wait_lock* at = pin()) {
        const wait_label label = at->label();
        unpin(*at);
        text += label.text();
    } else {
        text += "its turn, which has come";
    }
}

// The lock is held for so many steps at most, for each of the waiters that a dump lists.
constexpr std::size_t most_places_counted = 100;

void wait_node::describe_place(std::string& text) const {
    std::size_t position = 0;
    std::size_t all = 0;
    look_at_list([&](const wait_list& list) {
        all = list.size();
        const wait_node* n = list.front();
        for (position = 1; n != this && position <= most_places_counted; ++position)
            n = n->next();
    });
    if (all < 2)
        return;
    if (position > most_places_counted) {
        text += ", behind " + std::to_string(most_places_counted) + " others in line";
        return;
    }
    const std::size_t last_two = position % 100;
    const bool is_teen = last_two >= 11 && last_two <= 13;
    const char* const ending = is_teen              ? "th"
                               : position % 10 == 1 ? "st"
                               : position % 10 == 2 ? "nd"
                               : position % 10 == 3 ? "rd"
                                                    : "th";
    text += ", " + std::to_string(position) + ending + " of " + std::to_string(all) + " in line";
}

} // namespace creel
