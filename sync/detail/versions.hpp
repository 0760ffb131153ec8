// What broadcast and watch stand on: a number that grows with each value that is published, and
// those who wait until it is greater than the one they know.
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <cstdint>
#include <memory>
#include <mutex>
#include <source_location>
#include <type_traits>
#include <utility>

namespace creel::sync::detail {

// How a published value is kept: small plain ones as they are; others shared, so that no copy is
// made under the spinlock.
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

// The untyped half. Everything public is guarded by `guard`.
class versions {
public:
    versions(const char* what, std::source_location made_at) noexcept : guard(what, made_at) {}

    // Waits until there is a version behind `seen`, or no more will come. The cancellation point.
    // Returns with the lock held. Throws: cancelled.
    std::unique_lock<wait_lock> wait_for_more_than(std::uint64_t seen);

    void close() noexcept;

    mutable wait_lock guard;
    std::uint64_t newest = 0; // the number of the last one published
    bool closed = false;
    wait_list waiting{guard};
};

} // namespace creel::sync::detail
