// The untyped half of single_flight: who computes what, and who waits for whom. All of it lies on
// the stacks of those who take part, but for the chains of many keys.
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

// The leaders by key: chains of those whose hashes agree in their low bits. It grows by one chain
// at a time (linear hashing: Litwin, "Linear hashing: a new tool for file and table addressing",
// 1980), so that no call moves more than two chains under the spinlock. Blocks of chains are made
// without the lock; while there is no memory for one, the chains only get longer.
// Guarded by the core's lock, but for make_block.
class flight_table {
public:
    using block = std::unique_ptr<flight*[]>;

    // Where the leader for this key is linked, or null is. Throws: what equal does.
    [[nodiscard]] flight** find(const flight& like);
    // Links one where find() has given null.
    void add(flight*& place, flight& leader) noexcept;
    // The one who comes instead has the same key; null: nobody does.
    void replace(flight& leader, flight* instead) noexcept;

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    // How many chains the block has that it needs in order to grow, 0 if none is missing. Then,
    // without the lock, make_block (null without memory), and give_block with the lock again; what
    // that returns ends without the lock.
    [[nodiscard]] std::size_t missing() const noexcept;
    [[nodiscard]] static block make_block(std::size_t chains) noexcept;
    [[nodiscard]] block give_block(block made, std::size_t chains) noexcept;

    using blocks = std::array<block, 32>;
    // Gives all memory back if nobody flies: into `unused`, which ends without the lock.
    void shrink(std::optional<blocks>& unused) noexcept;

private:
    static constexpr std::size_t fewest = 64;

    [[nodiscard]] flight*& chain(std::size_t number) noexcept;
    [[nodiscard]] flight*& chain_of(std::size_t hash) noexcept;
    void split() noexcept;
    // The block in which this chain is, which begins with the chain of its own size's number.
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

    // True: the caller leads, and must land(). False: `mine` has the leader's value or error.
    // Throws: cancelled.
    bool join(flight& mine);

    // The leader has ended: its followers get its value or error, or, if it has neither, the first
    // of them leads.
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

// One who asks. While it leads it is in its key's chain and the others wait in its list; who waits
// may become the leader, and takes the place and the list over. Guarded by the core's lock, but
// what is written before a wake is read after it.
struct flight {
    using equal_function = bool (*)(const void*, const void*);

    flight(flight_core& core, const void* k, std::size_t h, equal_function e) noexcept
        : key(k),
          hash(spread(h)),
          equal(e),
          party(this_party()),
          within(this_scope()),
          followers(core.lock_) {}

    // std::hash of a number or a pointer is often the thing itself, with low bits that agree.
    [[nodiscard]] static std::size_t spread(std::size_t h) noexcept {
        std::uint64_t z = h;
        z = (z ^ (z >> 32)) * 0x9e3779b97f4a7c15U;
        return static_cast<std::size_t>(z ^ (z >> 32));
    }

    const void* key;
    std::size_t hash;
    equal_function equal;
    party_number party;         // who asks
    const cancel_scope* within; // as it asks; for debug mode
    flight* next = nullptr;     // in the chain
    wait_list followers;
    std::shared_ptr<const void> value{};
    std::exception_ptr error{};
};

// Lands at the end of a scope, however that is left.
struct landing {
    flight_core& core;
    flight& leader;
    ~landing() { core.land(leader); }
};

} // namespace detail
} // namespace creel::sync
