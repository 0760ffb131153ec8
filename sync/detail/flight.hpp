// The untyped half of single_flight: which caller computes which key, and which callers wait for
// it. All of it lies on the stacks of these callers, except for the chains of many keys.
//
// The states of a flight, which is one caller's run():
//
//     asks --1--> leads --3--> landed
//       |           ^
//       |           4
//       +----2--> follows --5--> landed
//                   |
//                   +-----6----> withdrawn
//
//     1  join(): no flight with its key leads. It is linked into the key's chain.
//     2  join(): it waits in the leader's list.
//     3  land(): the leader's function has ended, in whatever way. A value or an error ends the
//        flight for all; after a cancel (no value and no error) the first follower leads instead.
//     4  land() of the leader before it, which was cancelled: it takes over the place in the chain
//        and the list of followers.
//     5  land() of its leader: it has the leader's value or error.
//     6  a cancel of the follower alone: follower::left().
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>

namespace creel::sync {

struct single_flight_statistics {
    std::size_t in_flight = 0; // keys that are computed now
    std::size_t waiting = 0;   // callers that wait for another's computation
};

namespace detail {

struct flight;

// The leaders by key. Leaders whose hashes agree in their low bits form a chain. The table grows by
// one chain at a time (linear hashing: Litwin, "Linear hashing: a new tool for file and table
// addressing", 1980), so that no call moves more than two chains with the lock held. Blocks of
// chains are made with the lock free; while there is no memory for a block, the chains only get
// longer. Guarded by the core's lock, except for make_block.
class flight_table {
public:
    using block = std::unique_ptr<flight*[]>;

    // The link that points to the leader for this key, or a null link. Throws: the error of equal.
    [[nodiscard]] flight** find(const flight& like);
    // Links a leader where find() has given a null link.
    void add(flight*& place, flight& leader) noexcept;
    // Puts `instead`, which has the same key, into the leader's place; null: only unlinks the
    // leader.
    void replace(flight& leader, flight* instead) noexcept;

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    // The table grows in three steps. missing(): how many chains the next block has, 0 if no block
    // is missing. make_block(), with the lock free: null if there is no memory. give_block(), with
    // the lock held again: the block that it returns is freed after the unlock.
    [[nodiscard]] std::size_t missing() const noexcept;
    [[nodiscard]] static block make_block(std::size_t chains) noexcept;
    [[nodiscard]] block give_block(block made, std::size_t chains) noexcept;

    using blocks = std::array<block, 32>;
    // If no flight is left, gives all memory back: into `unused`, which ends after the unlock.
    void shrink(std::optional<blocks>& unused) noexcept;

private:
    static constexpr std::size_t fewest = 64;

    [[nodiscard]] flight*& chain(std::size_t number) noexcept;
    [[nodiscard]] flight*& chain_of(std::size_t hash) noexcept;
    void split() noexcept;
    // The block that has this chain. A block of n chains begins with chain n.
    [[nodiscard]] static std::size_t block_of(std::size_t number) noexcept {
        return static_cast<std::size_t>(std::bit_width(number / fewest)) - 1;
    }

    std::array<flight*, fewest> first_{};
    blocks more_{}; // 64 chains, 128, 256, ...
    std::size_t chains_ = fewest;
    std::size_t size_ = 0;
};

class flight_core {
public:
    explicit flight_core(std::source_location made_at) noexcept : lock_("single_flight", made_at) {}
    ~flight_core();
    flight_core(const flight_core&) = delete;
    flight_core& operator=(const flight_core&) = delete;

    // Waits while another flight with this key leads. True: the caller leads, and must land().
    // False: `mine` has the leader's value or error. Throws: cancelled; the error of equal.
    bool join(flight& mine);

    // The leader's function has ended. Its followers get its value or error; if it has neither, the
    // first of them leads.
    void land(flight& leader) noexcept;

    [[nodiscard]] std::size_t in_flight() const noexcept;
    [[nodiscard]] single_flight_statistics statistics() const noexcept;

private:
    friend struct flight;
    struct follower;
    void grow(std::size_t chains) noexcept;

    mutable wait_lock lock_;
    flight_table flying_;
    std::size_t waiting_ = 0;
};

// The callers that wait for a leader's function.
struct flight_followers : wait_list {
    flight_followers(wait_lock& guard, flight& f) noexcept : wait_list(guard), leader(f) {}
    flight& leader;
};

// One caller of run(). While it leads, it is in its key's chain and the others wait in its list.
// Guarded by the core's lock, except that value and error, which are written before a wake, are
// read after that wake without the lock.
struct flight {
    using equal_function = bool (*)(const void*, const void*);

    flight(flight_core& core, const void* k, std::size_t h, equal_function e) noexcept
        : key(k),
          hash(spread(h)),
          equal(e),
          party(this_party()),
          within(this_scope()),
          followers(core.lock_, *this) {}

    // std::hash of a number or a pointer is often the number itself, and many such numbers agree in
    // their low bits.
    [[nodiscard]] static std::size_t spread(std::size_t h) noexcept {
        std::uint64_t z = h;
        z = (z ^ (z >> 32)) * 0x9e3779b97f4a7c15U;
        return static_cast<std::size_t>(z ^ (z >> 32));
    }

    const void* key;
    std::size_t hash;
    equal_function equal;
    party_number party;     // the caller
    scope_id within;        // the caller's scope; for debug mode
    flight* next = nullptr; // in the chain
    flight_followers followers;
    std::shared_ptr<const void> value{};
    std::exception_ptr error{};
};

// Lands at the end of a C++ scope, however the scope is left.
struct landing {
    flight_core& core;
    flight& leader;
    ~landing() { core.land(leader); }
};

} // namespace detail
} // namespace creel::sync
