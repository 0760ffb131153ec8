// Something has happened: one party sets the event, others wait for it.
//
//     sync::event ready;                                 // manual: stays set until reset()
//     n.spawn([&] { load(); ready.set(); });
//     ready.wait();
//
//     sync::event more{sync::event::automatic};          // each set() lets one waiter through
//     more.wait();                                       // or, without a waiter, the next wait()
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <source_location>

namespace creel::sync {

namespace detail {
template <typename F>
struct event_case;
}

struct event_statistics {
    bool is_set = false;
    std::size_t waiting = 0;
};

class event {
public:
    enum reset_mode : std::uint8_t { manual, automatic };

    explicit event(reset_mode how = manual,
                   std::source_location made_at = std::source_location::current()) noexcept
        : lock_("event", made_at), automatic_(how == automatic) {}
    event(const event&) = delete;
    event& operator=(const event&) = delete;

    // Manual: all waiters go on, and so does every wait() until reset(). Automatic: the waiter that
    // has waited longest goes on; if there is none, the next wait() does. Setting an event that is
    // set changes nothing. A waiter that goes on may destroy the event.
    // Parks: never. Threads: any. Cost: the primitive's lock, and a wake for each waiter that goes
    // on.
    void set() noexcept;

    // Afterwards the event is not set. Parks: never. Threads: any.
    void reset() noexcept;

    // Parks: until the event is set; first come, first served. Cancel: yes, an automatic event is
    // not used up then. Threads: any. Throws: cancelled. Cost: the primitive's lock when it is set.
    void wait();

    // Like wait(), but returns false if the event is not set. Uses up an automatic event.
    // Parks: never. Threads: any.
    [[nodiscard]] bool try_wait() noexcept;

    // The answer may be outdated when the caller looks at it. Threads: any.
    [[nodiscard]] bool is_set() const noexcept;
    [[nodiscard]] event_statistics statistics() const noexcept;

private:
    template <typename F>
    friend struct detail::event_case; // select's

    mutable wait_lock lock_;
    bool automatic_;
    bool set_ = false; // guarded by lock_, as is the list
    wait_list waiting_{lock_};
};

} // namespace creel::sync
