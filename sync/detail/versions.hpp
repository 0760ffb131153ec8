// The part that broadcast and watch share: a number that grows with each value that is published,
// and the callers that wait until it is greater than the number they know.
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <source_location>
#include <type_traits>
#include <utility>

namespace creel::sync::detail {

// A published value. A small plain value is kept as it is; any other is shared, so that no copy of
// it is made with the lock held.
template <typename T>
class kept_value {
public:
    kept_value() = default;
    explicit kept_value(T&& value) : value_(make(std::move(value))) {}

    [[nodiscard]] const T& operator*() const noexcept {
        if constexpr (is_plain)
            return value_;
        else
            return *value_;
    }

private:
    static constexpr bool is_plain =
        std::is_trivially_copyable_v<T> && std::is_default_constructible_v<T> && sizeof(T) <= 64;
    static auto make(T&& value) {
        if constexpr (is_plain)
            return value;
        else
            return std::make_shared<const T>(std::move(value));
    }
    std::conditional_t<is_plain, T, std::shared_ptr<const T>> value_{};
};

// The last values that were published, up to a limit. The memory grows with their number, by
// doubling each time, and the values stay where they are. It grows in the three steps of a queue's
// store: see item_store.hpp.
template <typename T>
class kept_values {
public:
    using room = std::unique_ptr<kept_value<T>[]>;

    explicit kept_values(std::size_t limit)
        : limit_(limit),
          levels_(std::make_unique<room[]>(static_cast<std::size_t>(std::bit_width(limit)))) {}

    [[nodiscard]] std::size_t limit() const noexcept { return limit_; }
    [[nodiscard]] bool has_room_for(std::uint64_t version) const noexcept {
        return version <= ready_ || ready_ == limit_;
    }
    [[nodiscard]] std::size_t growth() const noexcept {
        return std::min(ready_ + 1, limit_ - ready_);
    }
    static room make_room(std::size_t values) { return std::make_unique<kept_value<T>[]>(values); }
    void add(room& more, std::size_t values) noexcept {
        if (ready_ == limit_ || values != growth())
            return;
        levels_[static_cast<std::size_t>(std::bit_width(ready_))] = std::move(more);
        ready_ += values;
    }

    // The first version is 1.
    [[nodiscard]] kept_value<T>& operator[](std::uint64_t version) const noexcept {
        const auto i = static_cast<std::size_t>((version - 1) % limit_) + 1;
        const auto level = static_cast<std::size_t>(std::bit_width(i)) - 1;
        return levels_[level][i - (std::size_t{1} << level)];
    }

private:
    std::size_t limit_;
    std::size_t ready_ = 0;
    std::unique_ptr<room[]> levels_;
};

// The untyped half of a broadcast or a watch. All public members are guarded by `guard`.
class versions {
public:
    versions(const char* what, std::source_location made_at) noexcept : guard(what, made_at) {}

    // Waits until there is a version after `seen`, or until no more will come. A cancellation
    // point. Returns with the lock held. Throws: cancelled.
    std::unique_lock<wait_lock> wait_for_more_than(std::uint64_t seen);

    void close() noexcept;

    mutable wait_lock guard;
    std::uint64_t newest = 0; // the number of the last value published
    bool closed = false;
    wait_list waiting{guard};
};

} // namespace creel::sync::detail
