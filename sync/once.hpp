// Something is done once, by the first caller; the others wait until it is done.
//
//     sync::once loaded;
//     loaded.call([&] { table = load(); });   // in every caller, before it uses the table
//
// As with std::call_once, a function that throws does not count as done, and the next caller calls
// its own. The same holds for a caller that is cancelled. The once must outlive every call.
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <utility>

namespace creel::sync {

struct once_statistics {
    bool done = false;
    bool running = false;
    std::size_t waiting = 0;
    std::uint64_t failed = 0; // calls that threw
};

class once {
public:
    explicit once(std::source_location made_at = std::source_location::current()) noexcept
        : lock_("once", made_at) {}
    once(const once&) = delete;
    once& operator=(const once&) = delete;

    // Returns when f, or the function of another caller, has been called and has returned. Calling
    // the same once inside f is a bug, and is caught. In a child of f, or in a blocking call of f,
    // such a call waits for itself until a cancel, and debug mode says so.
    // Parks: while another caller runs its function, and as f does. Cancel: yes. Threads: any.
    // Throws: cancelled; the error of the caller's own f. Cost: three loads once it is done.
    template <typename F>
    void call(F&& f) {
        check_cancel();
        if (done_.load(std::memory_order_acquire) || !begin())
            return;
        attempt mine{*this};
        std::invoke(std::forward<F>(f));
        mine.succeeded = true;
    }

    // Once this is true, all effects of f are visible. Threads: any.
    [[nodiscard]] bool done() const noexcept { return done_.load(std::memory_order_acquire); }
    [[nodiscard]] once_statistics statistics() const noexcept;

private:
    struct caller;
    // Ends the caller's turn however f ends. Its destructor does not park.
    struct attempt {
        explicit attempt(once& o) noexcept : of(o) {}
        attempt(const attempt&) = delete;
        attempt& operator=(const attempt&) = delete;
        ~attempt() { of.end(succeeded); }
        once& of;
        bool succeeded = false;
    };

    // Waits while another caller runs. True: it is this caller's turn to call its f.
    // Throws: cancelled.
    [[nodiscard]] bool begin();
    void end(bool succeeded) noexcept;

    mutable wait_lock lock_;
    std::atomic<bool> done_{false}; // written with the lock held
    party_number runner_ = 0;       // guarded by lock_, as is all below; 0: idle, or done
    scope_id within_ = nullptr;     // the runner's scope when it called; for debug mode
    wait_list waiting_{lock_};
    std::uint64_t failed_ = 0;
};

} // namespace creel::sync
