#include <creel/sync/detail/flight.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/held_wait.hpp>

#include <limits>
#include <mutex>
#include <new>
#include <string>
#include <utility>

namespace creel::sync::detail {

struct flight_core::follower final : list_waiter {
    follower(flight_core& c, flight& f) noexcept : list_waiter(kind), of(c), asks(f) {}

    static void left(list_waiter& who, wait_list&, wake_batch&) noexcept {
        --static_cast<follower&>(who).of.waiting_;
    }
    static party_number holder(const waiter& w) noexcept {
        party_number found = 0;
        static_cast<const follower&>(w).look_at_list([&](const wait_list& list) {
            found = static_cast<const flight_followers&>(list).leader.party;
        });
        return found;
    }
    static constexpr wait_kind kind{true, &left, &holder};

    flight_core& of;
    flight& asks;
    bool leads = false;
    held_wait listed{*this};
};

// ---- the table ----------------------------------------------------------------------------------

flight*& flight_table::chain(std::size_t number) noexcept {
    if (number < fewest)
        return first_[number];
    const std::size_t in = block_of(number);
    return more_[in][number - (fewest << in)];
}

// Chosen by as many low bits of the hash as there are chains for, or by one bit less where that
// chain is not made yet.
flight*& flight_table::chain_of(std::size_t hash) noexcept {
    const std::size_t low = std::bit_floor(chains_);
    const std::size_t number = hash & (2 * low - 1);
    return chain(number < chains_ ? number : number - low);
}

flight** flight_table::find(const flight& like) {
    flight** place = &chain_of(like.hash);
    while (*place != nullptr &&
           ((*place)->hash != like.hash || !like.equal((*place)->key, like.key)))
        place = &(*place)->next;
    return place;
}

// Two splits for each leader, so that the table catches up after a time without memory.
void flight_table::add(flight*& place, flight& leader) noexcept {
    place = &leader;
    ++size_;
    for (int i = 0; i < 2 && size_ > chains_ && missing() == 0; ++i)
        split();
}

void flight_table::replace(flight& leader, flight* instead) noexcept {
    flight** place = &chain_of(leader.hash);
    while (*place != &leader)
        place = &(*place)->next;
    if (instead != nullptr) {
        instead->next = leader.next;
        *place = instead;
    } else {
        *place = leader.next;
        --size_;
    }
}

std::size_t flight_table::missing() const noexcept {
    if (size_ < chains_)
        return 0;
    const std::size_t in = block_of(chains_);
    return in < more_.size() && more_[in] == nullptr ? fewest << in : 0;
}

flight_table::block flight_table::make_block(std::size_t chains) noexcept {
    return block{new (std::nothrow) flight* [chains] {}};
}

// Another caller may have given a block meanwhile, or all flights may have landed.
flight_table::block flight_table::give_block(block made, std::size_t chains) noexcept {
    if (missing() == chains)
        more_[block_of(chains_)].swap(made);
    return made;
}

// The chain that is next in order keeps the leaders with a 0 as the next bit of the hash; the
// others go to the new chain.
void flight_table::split() noexcept {
    const std::size_t low = std::bit_floor(chains_);
    flight** stay = &chain(chains_ - low);
    flight** go = &chain(chains_);
    ++chains_;
    for (flight* f = std::exchange(*stay, nullptr); f != nullptr;) {
        flight**& end = (f->hash & low) == 0 ? stay : go;
        flight* const next = std::exchange(f->next, nullptr);
        *end = f;
        end = &f->next;
        f = next;
    }
}

void flight_table::shrink(std::optional<blocks>& unused) noexcept {
    if (size_ != 0 || more_[0] == nullptr)
        return;
    more_.swap(unused.emplace());
    chains_ = fewest;
}

// ---- flights ------------------------------------------------------------------------------------

flight_core::~flight_core() {
    CREEL_ASSERT(flying_.size() == 0,
                 lock_.says("destroyed while somebody computes for it").c_str());
}

bool flight_core::join(flight& mine) {
    follower me{*this, mine};
    std::size_t missing = 0;
    const wait_label label = lock_.label();
    party_number computes = 0;
    scope_id within = nullptr;
    {
        const std::lock_guard hold{lock_};
        flight*& place = *flying_.find(mine);
        if (place != nullptr) {
            CREEL_ASSERT(place->party != mine.party,
                         lock_.says("run() for a key by the function that computes it").c_str());
            computes = place->party;
            within = place->within;
            place->followers.push_back(me);
            ++waiting_;
        } else {
            flying_.add(place, mine);
            missing = flying_.missing();
        }
    }
    if (computes == 0) {
        if (missing != 0) [[unlikely]]
            grow(missing);
        return true;
    }
    warn_if_ancestor_waits(
        label, computes, within,
        "do not ask for a key inside the function that computes it, nor in its children");
    me.wait();
    return me.leads;
}

void flight_core::grow(std::size_t chains) noexcept {
    flight_table::block made = flight_table::make_block(chains);
    if (made == nullptr)
        return; // the next leader tries again
    const std::lock_guard hold{lock_};
    made = flying_.give_block(std::move(made), chains);
}

void flight_core::land(flight& leader) noexcept {
    std::optional<flight_table::blocks> unused;
    wake_batch to_wake;
    const std::lock_guard hold{lock_};
    if (leader.value == nullptr && leader.error == nullptr) {
        // The follower that takes over is off the list, so that a cancel finds it `pending`: it
        // computes, and its first wait throws, which hands over again.
        if (auto* next = static_cast<follower*>(leader.followers.take_front())) {
            next->leads = true;
            --waiting_;
            leader.followers.requeue(next->asks.followers, std::numeric_limits<std::size_t>::max());
            flying_.replace(leader, &next->asks);
            to_wake.add(*next);
            return;
        }
    }
    flying_.replace(leader, nullptr);
    flying_.shrink(unused);
    while (auto* next = static_cast<follower*>(leader.followers.take_front())) {
        --waiting_;
        next->asks.value = leader.value;
        next->asks.error = leader.error;
        to_wake.add(*next);
    }
}

std::size_t flight_core::in_flight() const noexcept {
    const std::lock_guard hold{lock_};
    return flying_.size();
}

single_flight_statistics flight_core::statistics() const noexcept {
    const std::lock_guard hold{lock_};
    return {flying_.size(), waiting_};
}

} // namespace creel::sync::detail
