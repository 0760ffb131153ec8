// Something has happened: one sets it, others wait for it.
//
//     sync::event ready;                                 // manual: stays set until reset()
//     n.spawn([&] { load(); ready.set(); });
//     ready.wait();
//
//     sync::event more{sync::event::automatic};          // each set() lets one waiter through, and
//     more.wait();                                       // one that finds nobody is kept for the
//     next
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

    // Manual: everybody goes on, now and until reset(). Automatic: the one who has waited longest
    // goes on, else the next to wait. Setting what is set changes nothing. Whoever it lets through
    // may destroy the event.
    // Parks: never. Threads: any. Cost: a spinlock, and a wake for each it lets through.
    void set() noexcept;

    // Threads: any.
    void reset() noexcept;

    // Parks: until it is set; first come first served. Cancel: yes, an automatic event is not used
    // up then. Threads: any. Throws: cancelled. Cost: a spinlock when it is set.
    void wait();

    // As wait, but never parks: false if it is not set. Uses an automatic one up. Threads: any.
    [[nodiscard]] bool try_wait() noexcept;

    // Threads: any; it may be outdated when you look.
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
