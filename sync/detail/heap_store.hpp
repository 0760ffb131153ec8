// The store of a priority_queue: the least first. See item_store.hpp for what every store does.
#pragma once

#include <creel/sync/detail/item_store.hpp>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>

namespace creel::sync::detail {

// The least item first, by Less; equal items in the order in which they came. A binary heap of the
// items' addresses, so that the search for an item's place moves no items. Each level of the heap
// is an array of its own, twice as long as the level above it; the first few levels lie in one
// allocation. Places are numbered from 1, so that the children of n are 2n and 2n + 1.
template <typename T, typename Less>
class heap_store {
    struct place {
        T* item;            // for a free place, a free slot
        std::uint64_t turn; // of two equal items, the item with the smaller turn goes first
    };

public:
    struct room {
        std::unique_ptr<place[]> places{};
        item_slots<T> items{};
    };

    heap_store() = default;
    explicit heap_store(std::size_t capacity, Less less = {}) : less_(std::move(less)) {
        if (capacity == 0)
            return;
        const std::size_t depth = level_of(capacity) + 1;
        capacity_ = capacity;
        levels_ = std::make_unique<std::uintptr_t[]>(depth);
        slots_ = std::make_unique<T*[]>(depth);
        rooms_ = std::make_unique<room[]>(depth);
        room first = make_room(growth());
        static_cast<void>(add(first));
    }
    heap_store(heap_store&&) = delete;
    ~heap_store() {
        for (; count_ > 0; --count_)
            std::destroy_at(at(levels_[level_of(count_)], count_).item);
    }
    void swap(heap_store& other) noexcept {
        std::swap(levels_, other.levels_);
        std::swap(slots_, other.slots_);
        std::swap(rooms_, other.rooms_);
        std::swap(count_, other.count_);
        std::swap(used_, other.used_);
        std::swap(ready_, other.ready_);
        std::swap(capacity_, other.capacity_);
    }

    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] bool has_room() const noexcept { return count_ < ready_; } // without growing
    [[nodiscard]] bool can_grow() const noexcept { return ready_ < capacity_; }

    // The next level; at first several levels.
    [[nodiscard]] std::size_t growth() const noexcept {
        constexpr std::size_t few = std::bit_ceil(small_room(sizeof(T) + sizeof(place))) - 1;
        return std::min(ready_ == 0 ? few : ready_ + 1, capacity_ - ready_);
    }
    static room make_room(std::size_t items) {
        return {std::make_unique_for_overwrite<place[]>(items), item_slots<T>{items}};
    }
    [[nodiscard]] bool add(room& more) noexcept {
        if (!can_grow() || more.items.capacity() != growth())
            return false;
        const std::size_t first = ready_ + 1;
        ready_ += more.items.capacity();
        for (std::size_t level = level_of(first); level <= level_of(ready_); ++level) {
            const std::size_t before = (std::size_t{1} << level) - first;
            levels_[level] = reinterpret_cast<std::uintptr_t>(more.places.get() + before) -
                             (sizeof(place) << level);
            slots_[level] = more.items.begin() + before;
        }
        rooms_[level_of(first)] = std::move(more);
        return true;
    }

    void push(T&& item) {
        const std::uintptr_t* const levels = levels_.get();
        const std::size_t last = count_ + 1;
        const std::size_t last_level = level_of(last);
        std::size_t n = last; // first find its place
        std::size_t level = last_level;
        for (; n > 1 && less_(std::as_const(item), *at(levels[level - 1], n / 2).item); --level)
            n /= 2;
        place* hole = &at(levels[last_level], last);
        if (count_ == used_) [[unlikely]]
            use_another(*hole);
        T* const slot = hole->item;
        std::construct_at(slot, std::move(item));
        for (std::size_t l = last_level, k = last; l != level; --l) {
            place* const above = &at(levels[l - 1], k /= 2);
            *hole = *above;
            hole = above;
        }
        *hole = {slot, next_turn_++};
        ++count_;
    }

    template <typename Put>
    void take(Put&& put) {
        // The item of the last place fills the hole at the top: find how far down it goes. The bits
        // of `hole` below the highest are the way down.
        const std::uintptr_t* const levels = levels_.get();
        const std::size_t last = count_;
        place& last_place = at(levels[level_of(last)], last);
        std::size_t hole = 1;
        std::size_t level = 0;
        for (std::size_t next = 2; next < last; next = 2 * hole) {
            const place* child = &at(levels[level + 1], next);
            if (next + 1 < last && before(child[1], child[0])) {
                ++child;
                ++next;
            }
            if (!before(*child, last_place))
                break;
            hole = next;
            ++level;
        }
        place* to = &at(levels[0], 1);
        T* const slot = to->item;
        put(std::move(*slot));
        std::destroy_at(slot);
        for (std::size_t l = 1; l <= level; ++l) {
            place* const child = &at(levels[l], hole >> (level - l));
            *to = *child;
            to = child;
        }
        *to = last_place;
        last_place.item = slot;
        count_ = last - 1;
    }

private:
    static std::size_t level_of(std::size_t n) noexcept {
        return static_cast<std::size_t>(std::numeric_limits<std::size_t>::digits - 1 -
                                        std::countl_zero(n));
    }
    static place& at(std::uintptr_t level, std::size_t n) noexcept {
        return *reinterpret_cast<place*>(level + n * sizeof(place)); // NOLINT
    }
    // Gives a slot to the first place that has none.
    void use_another(place& p) noexcept {
        const std::size_t level = level_of(++used_);
        p.item = slots_[level] + (used_ - (std::size_t{1} << level));
    }
    [[nodiscard]] bool before(const place& a, const place& b) const {
        if (less_(std::as_const(*a.item), std::as_const(*b.item)))
            return true;
        return a.turn < b.turn && !less_(std::as_const(*b.item), std::as_const(*a.item));
    }

    // For each level that the capacity needs: the address at which place 0 would be if the level
    // went back to it; its slots, in the order of their allocation; and, for the first level of an
    // allocation, that allocation.
    std::unique_ptr<std::uintptr_t[]> levels_{};
    std::unique_ptr<T*[]> slots_{};
    std::unique_ptr<room[]> rooms_{};
    std::size_t count_ = 0;
    std::size_t used_ = 0; // this many places have been given a slot
    std::size_t ready_ = 0;
    std::size_t capacity_ = 0;
    std::uint64_t next_turn_ = 0;
    [[no_unique_address]] Less less_{};
};

} // namespace creel::sync::detail
