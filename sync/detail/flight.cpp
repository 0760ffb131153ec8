#include <creel/sync/detail/flight.hpp>

#include <creel/fibers/assert.hpp>

#include <limits>
#include <mutex>
#include <string>

namespace creel::sync::detail {

struct flight_core::follower final : list_waiter {
    follower(flight_core& c, flight& f) noexcept : list_waiter(kind), core(c), me(f) {}

    static void left(list_waiter& who, wait_list&, wake_batch&) noexcept {
        --static_cast<follower&>(who).core.waiting_;
    }
    static constexpr wait_kind kind{true, &left};

    flight_core& core;
    flight& me;
    bool leads = false;
};

flight_core::~flight_core() {
    CREEL_ASSERT(flying_ == 0, lock_.says("destroyed while somebody computes for it").c_str());
}

// Where the leader for this key is linked, or null is. With the lock held. Throws: what equal does.
flight** flight_core::find(const flight& like) {
    flight** place = &chains_[like.hash % chains];
    while (*place != nullptr &&
           ((*place)->hash != like.hash || !like.equal((*place)->key, like.key)))
        place = &(*place)->next;
    return place;
}

bool flight_core::join(flight& me) {
    follower waiting{*this, me};
    {
        const std::lock_guard hold{lock_};
        flight** place = find(me);
        if (*place == nullptr) {
            *place = &me;
            ++flying_;
            return true;
        }
        CREEL_ASSERT((*place)->party != me.party,
                     lock_.says("run() for a key by the function that computes it").c_str());
        (*place)->followers.push_back(waiting);
        ++waiting_;
    }
    waiting.wait();
    return waiting.leads;
}

void flight_core::land(flight& leader) noexcept {
    wake_batch woken;
    const std::lock_guard hold{lock_};
    flight** place = &chains_[leader.hash % chains];
    while (*place != &leader)
        place = &(*place)->next;
    if (leader.value == nullptr && leader.error == nullptr) {
        // Whoever takes over is off the list, so a cancel finds it `pending`: it computes, and its
        // first wait hands over again.
        if (auto* next = static_cast<follower*>(leader.followers.take_front())) {
            next->leads = true;
            --waiting_;
            leader.followers.requeue(next->me.followers, std::numeric_limits<std::size_t>::max());
            next->me.next = leader.next;
            *place = &next->me;
            woken.add(*next);
            return;
        }
    }
    *place = leader.next;
    --flying_;
    while (auto* next = static_cast<follower*>(leader.followers.take_front())) {
        --waiting_;
        next->me.value = leader.value;
        next->me.error = leader.error;
        woken.add(*next);
    }
}

std::size_t flight_core::in_flight() const noexcept {
    const std::lock_guard hold{lock_};
    return flying_;
}

single_flight_statistics flight_core::statistics() const noexcept {
    const std::lock_guard hold{lock_};
    return {flying_, waiting_};
}

} // namespace creel::sync::detail
