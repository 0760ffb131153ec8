// Every subscriber sees each value that is sent: for events that every subscriber must see.
//
//     sync::broadcast<price> prices{64};
//     n.spawn([s = prices.subscribe()]() mutable { while (auto p = s.receive()) show(*p); });
//     prices.send(p);
//
// A sender never waits. The last 64 values are kept. A subscriber that falls further behind misses
// values, but never silently: receive() throws `lagged` with their number, and the next call goes
// on with the oldest value kept. (Where only the newest value counts, use watch.)
#pragma once

#include <creel/sync/detail/versions.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <source_location>
#include <stdexcept>
#include <utility>

namespace creel::sync {

// A subscriber was too slow, and has missed values.
class lagged final : public std::runtime_error {
public:
    explicit lagged(std::uint64_t missed);
    // The number of values that the subscriber will never see.
    [[nodiscard]] std::uint64_t missed() const noexcept { return missed_; }

private:
    std::uint64_t missed_;
};

struct broadcast_statistics {
    std::uint64_t sent = 0;
    std::size_t waiting = 0; // subscribers that wait now
    bool closed = false;
};

namespace detail {
[[noreturn]] void broadcast_keeps_nothing(std::source_location made_at) noexcept;
}

template <typename T>
class broadcast {
public:
    class subscriber;

    // Keeps `kept` values; less than one is a bug, and is caught. Memory for them is allocated as
    // they come. Throws: std::bad_alloc.
    template <std::integral N>
    explicit broadcast(N kept, std::source_location made_at = std::source_location::current())
        : kept_(checked(kept, made_at)), core_("broadcast", made_at) {}
    broadcast(const broadcast&) = delete;
    broadcast& operator=(const broadcast&) = delete;

    // A subscriber sees every value that is sent from now on. It must not outlive the broadcast,
    // and one fiber uses it at a time.
    // Parks: never. Threads: any.
    [[nodiscard]] subscriber subscribe() {
        const std::lock_guard hold{core_.guard};
        return subscriber{*this, core_.newest};
    }

    // False once it is closed.
    // Parks: never. Threads: any. Throws: std::bad_alloc (for a T that is not small and plain, and
    // while fewer values were sent than are kept); the value is not sent then. Cost: the
    // primitive's lock, and a wake for each waiter.
    bool send(T value) {
        detail::kept_value<T> added{std::move(value)};
        typename detail::kept_values<T>::room more;
        wake_batch to_wake;
        std::unique_lock hold{core_.guard};
        while (!core_.closed && !kept_.has_room_for(core_.newest + 1)) [[unlikely]] {
            const std::size_t values = kept_.growth();
            hold.unlock();
            more = kept_.make_room(values);
            hold.lock();
            kept_.add(more, values);
        }
        if (core_.closed)
            return false;
        std::swap(kept_[++core_.newest], added); // the value that was there ends after the unlock
        core_.waiting.take_all(to_wake);
        return true;
    }

    // From now on subscribers see the values that are kept, and then the end.
    // Parks: never. Threads: any.
    void close() noexcept { core_.close(); }

    // Threads: any.
    [[nodiscard]] broadcast_statistics statistics() const noexcept {
        const std::lock_guard hold{core_.guard};
        return {core_.newest, core_.waiting.size(), core_.closed};
    }

private:
    template <std::integral N>
    static std::size_t checked(N kept, std::source_location made_at) {
        if (kept < 1)
            detail::broadcast_keeps_nothing(made_at);
        return static_cast<std::size_t>(kept);
    }

    detail::kept_values<T> kept_; // guarded by core_.guard, except for its limit
    detail::versions core_;
};

template <typename T>
class broadcast<T>::subscriber {
public:
    // A copy of the next value. Empty once the broadcast is closed and this subscriber has seen all
    // values kept.
    // Parks: until there is a value. Cancel: yes, and no value is lost by it. Threads: any.
    // Throws: cancelled; lagged, and the next call goes on with the oldest value kept; the error of
    // copying the value, and the next call gives that value again.
    [[nodiscard]] std::optional<T> receive() {
        std::unique_lock hold = from_->core_.wait_for_more_than(seen_);
        const std::uint64_t newest = from_->core_.newest;
        if (newest == seen_)
            return {};
        if (const std::size_t kept = from_->kept_.limit(); newest - seen_ > kept) {
            const std::uint64_t missed = newest - kept - seen_;
            seen_ += missed;
            hold.unlock();
            throw lagged{missed};
        }
        const detail::kept_value<T> value = from_->kept_[seen_ + 1];
        hold.unlock();
        std::optional<T> copy{*value};
        ++seen_;
        return copy;
    }

private:
    friend class broadcast;
    subscriber(broadcast& from, std::uint64_t seen) noexcept : from_(&from), seen_(seen) {}

    broadcast* from_;
    std::uint64_t seen_; // the number of the last value that it was given or has missed
};

} // namespace creel::sync
