// Where a pop of a queue wants its item, and whether putting it there may throw.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <optional>
#include <type_traits>
#include <utility>

namespace creel::sync::detail {

// No move of a T throws.
template <typename T>
inline constexpr bool moves_safely =
    std::is_nothrow_move_constructible_v<T> &&
    (std::is_nothrow_move_assignable_v<T> || !std::is_move_assignable_v<T>);

// Where a pop wants its item: in a new object, or assigned to an existing one.
template <typename T>
struct pop_slot {
    std::optional<T>* fresh;
    T* existing = nullptr;

    void put(T&& item) {
        if constexpr (std::is_move_assignable_v<T>) {
            if (existing != nullptr) {
                *existing = std::move(item);
                return;
            }
        }
        fresh->emplace(std::move(item));
    }
};

} // namespace creel::sync::detail
