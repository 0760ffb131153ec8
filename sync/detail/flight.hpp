// The untyped half of single_flight: who computes what, and who waits for whom. All of it lies on
// the stacks of those who take part.
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <array>
#include <cstddef>
#include <exception>
#include <memory>
#include <source_location>

namespace creel::sync {

struct single_flight_statistics {
    std::size_t in_flight = 0; // keys that are computed now
    std::size_t waiting = 0;   // callers that wait for another's computation
};

namespace detail {

struct flight;

class flight_core {
public:
    explicit flight_core(std::source_location made_at) noexcept : lock_("single_flight", made_at) {}
    ~flight_core();
    flight_core(const flight_core&) = delete;
    flight_core& operator=(const flight_core&) = delete;

    // True: the caller leads, and must land(). False: `me` has the leader's value or error.
    // Throws: cancelled.
    bool join(flight& me);

    // The leader has ended: its followers get its value or error, or, if it has neither, the first
    // of them leads.
    void land(flight& leader) noexcept;

    [[nodiscard]] std::size_t in_flight() const noexcept;
    [[nodiscard]] single_flight_statistics statistics() const noexcept;

private:
    friend struct flight;
    struct follower;
    static constexpr std::size_t chains = 64;

    flight** find(const flight& like);

    mutable wait_lock lock_;
    std::array<flight*, chains> chains_{};
    std::size_t flying_ = 0;
    std::size_t waiting_ = 0;
};

// One who asks. While it leads it is in its key's chain and the others wait in its list; who waits
// may become the leader, and takes the place and the list over. Guarded by the core's lock, but
// what is written before a wake is read after it.
struct flight {
    using equal_function = bool (*)(const void*, const void*);

    flight(flight_core& core, const void* k, std::size_t h, equal_function e) noexcept
        : key(k), hash(h), equal(e), party(this_party()), followers(core.lock_) {}

    const void* key;
    std::size_t hash;
    equal_function equal;
    party_number party;     // who asks
    flight* next = nullptr; // in the chain
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
