// Where a queue keeps its items. The room grows as the queue fills, up to its capacity, and stays.
// Three stores have the same functions and differ in the order: fifo_store, lifo_store and
// heap_store. None of them locks. A store moves each item once on its way in and once on its way
// out; when that move or a comparison throws, nothing has changed. Growth moves no item, because a
// move might throw.
//
// A store grows in three steps, so that the caller can allocate without its lock: growth() tells
// for how many items to make room, make_room() allocates the room, and add() takes it, or returns
// false because another caller has added room meanwhile. Room for a few items (`small_room`) is
// there from the beginning: a queue with no more capacity than that never allocates later.
//
// This file has the memory from which the stores are made.
#pragma once

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

namespace creel::sync::detail {

// Memory for T[capacity], without any T in it.
template <typename T>
class item_slots {
public:
    item_slots() = default;
    explicit item_slots(std::size_t capacity)
        : first_(capacity != 0 ? std::allocator<T>{}.allocate(capacity) : nullptr),
          capacity_(capacity) {}
    item_slots(item_slots&& other) noexcept
        : first_(std::exchange(other.first_, nullptr)),
          capacity_(std::exchange(other.capacity_, 0)) {}
    item_slots& operator=(item_slots&& other) noexcept {
        std::swap(first_, other.first_);
        std::swap(capacity_, other.capacity_);
        return *this;
    }
    ~item_slots() {
        if (first_ != nullptr)
            std::allocator<T>{}.deallocate(first_, capacity_);
    }

    [[nodiscard]] std::size_t capacity() const noexcept { return capacity_; }
    [[nodiscard]] T* begin() const noexcept { return first_; }
    [[nodiscard]] T* end() const noexcept { return first_ + capacity_; }

private:
    T* first_ = nullptr;
    std::size_t capacity_ = 0;
};

// How many items of this size are allocated at once.
constexpr std::size_t small_room(std::size_t item_bytes) noexcept {
    return std::clamp<std::size_t>(8192 / item_bytes, 4, 1024);
}

// A part of a store's room.
template <typename T>
struct slab {
    static constexpr std::size_t most = small_room(sizeof(T));

    explicit slab(std::size_t capacity) : slots(capacity) {}

    item_slots<T> slots;
    slab* next = nullptr; // owned by the store that links it
    slab* previous = nullptr;
};

} // namespace creel::sync::detail
