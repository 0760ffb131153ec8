// Where a queue keeps its items: room for all of them, allocated once. Three orders with the same
// four functions; none of them locks. Each item is moved once on its way in and once on its way
// out, whatever the order, and when that move or a comparison throws nothing has changed.
#pragma once

#include <cstddef>
#include <cstdint>
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
    [[nodiscard]] T& operator[](std::size_t i) const noexcept { return first_[i]; }

private:
    T* first_ = nullptr;
    std::size_t capacity_ = 0;
};

// First in, first out.
template <typename T>
class fifo_store {
public:
    fifo_store() = default;
    explicit fifo_store(std::size_t capacity) : slots_(capacity) {}
    fifo_store(fifo_store&&) = delete;
    ~fifo_store() {
        for (; count_ > 0; --count_)
            remove_front();
    }
    void swap(fifo_store& other) noexcept {
        std::swap(slots_, other.slots_);
        std::swap(front_, other.front_);
        std::swap(back_, other.back_);
        std::swap(count_, other.count_);
    }

    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] bool has_room() const noexcept { return count_ < slots_.capacity(); }

    void push(T&& item) {
        std::construct_at(&slots_[back_], std::move(item));
        back_ = behind(back_);
        ++count_;
    }

    // Gives the item whose turn it is to put(T&&).
    template <typename Put>
    void take(Put&& put) {
        put(std::move(slots_[front_]));
        remove_front();
        --count_;
    }

private:
    [[nodiscard]] std::size_t behind(std::size_t i) const noexcept {
        return i + 1 == slots_.capacity() ? 0 : i + 1;
    }
    void remove_front() noexcept {
        std::destroy_at(&slots_[front_]);
        front_ = behind(front_);
    }

    item_slots<T> slots_{};
    std::size_t front_ = 0;
    std::size_t back_ = 0;
    std::size_t count_ = 0;
};

// Last in, first out.
template <typename T>
class lifo_store {
public:
    lifo_store() = default;
    explicit lifo_store(std::size_t capacity) : slots_(capacity) {}
    lifo_store(lifo_store&&) = delete;
    ~lifo_store() {
        while (count_ > 0)
            std::destroy_at(&slots_[--count_]);
    }
    void swap(lifo_store& other) noexcept {
        std::swap(slots_, other.slots_);
        std::swap(count_, other.count_);
    }

    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] bool has_room() const noexcept { return count_ < slots_.capacity(); }

    void push(T&& item) {
        std::construct_at(&slots_[count_], std::move(item));
        ++count_;
    }
    template <typename Put>
    void take(Put&& put) {
        put(std::move(slots_[count_ - 1]));
        std::destroy_at(&slots_[--count_]);
    }

private:
    item_slots<T> slots_{};
    std::size_t count_ = 0;
};

// The least first, by Less; equal ones in the order they came. A binary heap of slot numbers, so
// that finding an item's place moves no items.
template <typename T, typename Less>
class heap_store {
public:
    heap_store() = default;
    explicit heap_store(std::size_t capacity, Less less = {})
        : slots_(capacity), order_(std::make_unique<place[]>(capacity)), less_(std::move(less)) {
        for (std::size_t i = 0; i < capacity; ++i)
            order_[i].slot = i;
    }
    heap_store(heap_store&&) = delete;
    ~heap_store() {
        while (count_ > 0)
            std::destroy_at(&slots_[order_[--count_].slot]);
    }
    void swap(heap_store& other) noexcept {
        std::swap(slots_, other.slots_);
        std::swap(order_, other.order_);
        std::swap(count_, other.count_);
    }

    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] bool has_room() const noexcept { return count_ < slots_.capacity(); }

    void push(T&& item) {
        std::size_t at = count_; // first find its place
        while (at > 0 && less_(std::as_const(item), value(above(at))))
            at = above(at);
        const std::size_t slot = order_[count_].slot;
        std::construct_at(&slots_[slot], std::move(item));
        for (std::size_t hole = count_; hole != at; hole = above(hole))
            order_[hole] = order_[above(hole)];
        order_[at] = {slot, next_turn_++};
        ++count_;
    }

    template <typename Put>
    void take(Put&& put) {
        // The last place fills the hole at the top: find how far down it goes, one bit a level.
        const std::size_t last = count_ - 1;
        std::uint64_t way = 0;
        std::size_t depth = 0;
        for (std::size_t at = 0; 2 * at + 1 < last; ++depth) {
            std::size_t child = 2 * at + 1;
            if (child + 1 < last && before(child + 1, child)) {
                ++child;
                way |= std::uint64_t{1} << depth;
            }
            if (!before(child, last))
                break;
            at = child;
        }
        const std::size_t slot = order_[0].slot;
        put(std::move(slots_[slot]));
        std::destroy_at(&slots_[slot]);
        std::size_t at = 0;
        for (; depth > 0; --depth, way >>= 1) {
            const std::size_t child = 2 * at + 1 + (way & 1);
            order_[at] = order_[child];
            at = child;
        }
        order_[at] = order_[last];
        order_[last].slot = slot;
        count_ = last;
    }

private:
    struct place {
        std::size_t slot = 0;
        std::uint64_t turn = 0; // of two equal items the one with the smaller goes first
    };

    static std::size_t above(std::size_t i) noexcept { return (i - 1) / 2; }
    [[nodiscard]] const T& value(std::size_t i) const noexcept { return slots_[order_[i].slot]; }
    [[nodiscard]] bool before(std::size_t a, std::size_t b) const {
        if (less_(value(a), value(b)))
            return true;
        return order_[a].turn < order_[b].turn && !less_(value(b), value(a));
    }

    item_slots<T> slots_{};
    std::unique_ptr<place[]> order_{}; // the heap, and behind it the free slots
    std::size_t count_ = 0;
    std::uint64_t next_turn_ = 0;
    [[no_unique_address]] Less less_{};
};

} // namespace creel::sync::detail
