// A value that changes, and the observers that want to see each change. Only the newest value
// counts: a slow observer sees only that value. For settings, states, the head of a log.
//
//     sync::watch<config> settings{load()};
//     n.spawn([o = settings.observe()]() mutable { while (auto c = o.next()) apply(*c); });
//     settings.set(load());
#pragma once

#include <creel/sync/detail/versions.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <source_location>
#include <utility>

namespace creel::sync {

struct watch_statistics {
    std::uint64_t changes = 0;
    std::size_t waiting = 0; // observers that wait now
    bool closed = false;
};

template <typename T>
class watch {
public:
    class observer;

    // Throws: std::bad_alloc, for a T that is not small and plain, as set() does.
    explicit watch(T initial, std::source_location made_at = std::source_location::current())
        : value_(std::move(initial)), core_("watch", made_at) {}
    watch(const watch&) = delete;
    watch& operator=(const watch&) = delete;

    // False once it is closed; the value then stays as it is.
    // Parks: never. Threads: any. Throws: std::bad_alloc, for a T that is not small and plain.
    // Cost: the primitive's lock, and a wake for each waiter.
    bool set(T value) {
        detail::kept_value<T> replaced{std::move(value)};
        wake_batch to_wake;
        const std::lock_guard hold{core_.guard};
        if (core_.closed)
            return false;
        std::swap(value_, replaced); // the old value ends after the unlock
        ++core_.newest;
        core_.waiting.take_all(to_wake);
        return true;
    }

    // A copy of the newest value.
    // Parks: never. Threads: any. Throws: the error of copying it.
    [[nodiscard]] T get() const {
        std::unique_lock hold{core_.guard};
        const detail::kept_value<T> value = value_;
        hold.unlock();
        return *value;
    }

    // An observer sees the changes from now on. It must not outlive the watch, and one fiber uses
    // it at a time.
    // Parks: never. Threads: any.
    [[nodiscard]] observer observe() {
        const std::lock_guard hold{core_.guard};
        return observer{*this, core_.newest};
    }

    // No more changes: observers see the last value, and then the end. Parks: never. Threads: any.
    void close() noexcept { core_.close(); }

    // Threads: any.
    [[nodiscard]] watch_statistics statistics() const noexcept {
        const std::lock_guard hold{core_.guard};
        return {core_.newest, core_.waiting.size(), core_.closed};
    }

private:
    detail::kept_value<T> value_; // guarded by core_.guard
    detail::versions core_;
};

template <typename T>
class watch<T>::observer {
public:
    // A copy of the newest value, once there is a value that this observer has not seen. Empty once
    // the watch is closed and this observer has seen the last value.
    // Parks: until then. Cancel: yes, and the next call sees the change. Threads: any.
    // Throws: cancelled; the error of copying the value, and the next call gives that value again.
    [[nodiscard]] std::optional<T> next() {
        std::unique_lock hold = from_->core_.wait_for_more_than(seen_);
        if (from_->core_.newest == seen_)
            return {};
        const std::uint64_t number = from_->core_.newest;
        const detail::kept_value<T> value = from_->value_;
        hold.unlock();
        std::optional<T> copy{*value};
        seen_ = number;
        return copy;
    }

private:
    friend class watch;
    observer(watch& from, std::uint64_t seen) noexcept : from_(&from), seen_(seen) {}

    watch* from_;
    std::uint64_t seen_; // the number of the last change that it was given
};

} // namespace creel::sync
