// Where a queue keeps its items: room that grows as it fills, up to the queue's capacity, and
// stays. Three orders with the same functions; none of them locks. Each item is moved once on its
// way in and once on its way out, whatever the order, and when that move or a comparison throws
// nothing has changed. To grow moves no item, for that might throw.
//
// Growing is in three steps, so that the caller can allocate without its lock: growth() tells for
// how many items there is to be room, make_room() allocates it, and add() takes it, or returns
// false because another was there before. Room for a few items (`small_room`) is there from the
// beginning: a queue that has no more capacity never allocates later.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
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

// So many items of so many bytes are allocated at once.
constexpr std::size_t small_room(std::size_t item_bytes) noexcept {
    return std::clamp<std::size_t>(8192 / item_bytes, 4, 1024);
}

// A part of a store's room.
template <typename T>
struct slab {
    static constexpr std::size_t most = small_room(sizeof(T));

    explicit slab(std::size_t capacity) : slots(capacity) {}

    item_slots<T> slots;
    slab* next = nullptr; // who links it owns it
    slab* previous = nullptr;
};

// First in, first out. A ring of slabs: the items begin in that of front_ and end in that of back_;
// behind that one come those without items, and then the first again.
template <typename T>
class fifo_store {
public:
    using room = std::unique_ptr<slab<T>>;

    fifo_store() = default;
    explicit fifo_store(std::size_t capacity) : fifo_store() {
        if (capacity == 0)
            return;
        capacity_ = capacity;
        insert(make_room(std::min(capacity, slab<T>::most)));
        front_slab_ = back_slab_;
        front_ = back_ = back_slab_->slots.begin();
        front_end_ = back_end_ = back_slab_->slots.end();
        ready_ = capacity;
        if (capacity > slab<T>::most) {
            insert(make_room(slab<T>::most));
            ready_ = slab<T>::most + 1;
        }
    }
    fifo_store(fifo_store&&) = delete;
    ~fifo_store() {
        for (; count_ > 0; --count_)
            remove_front();
        if (back_slab_ == nullptr)
            return;
        for (slab<T>* s = std::exchange(back_slab_->next, nullptr); s != nullptr;)
            s = room {
                s
            } -> next;
    }
    void swap(fifo_store& other) noexcept {
        std::swap(front_, other.front_);
        std::swap(front_end_, other.front_end_);
        std::swap(back_, other.back_);
        std::swap(back_end_, other.back_end_);
        std::swap(front_slab_, other.front_slab_);
        std::swap(back_slab_, other.back_slab_);
        std::swap(count_, other.count_);
        std::swap(ready_, other.ready_);
        std::swap(capacity_, other.capacity_);
    }

    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] bool has_room() const noexcept { return count_ < ready_; } // without growing
    [[nodiscard]] bool can_grow() const noexcept { return ready_ < capacity_; }

    [[nodiscard]] std::size_t growth() const noexcept { return slab<T>::most; }
    static room make_room(std::size_t items) { return std::make_unique<slab<T>>(items); }
    // Only behind the last item is a slab in its place, and with no item there is no such place.
    [[nodiscard]] bool add(room& more) noexcept {
        if (has_room() || !can_grow())
            return false;
        insert(std::move(more));
        ready_ = std::min(capacity_, ready_ + slab<T>::most);
        return true;
    }

    void push(T&& item) {
        if (back_ == back_end_) [[unlikely]]
            enter_next(back_slab_, back_, back_end_);
        std::construct_at(back_, std::move(item));
        ++back_;
        ++count_;
    }

    // Gives the item whose turn it is to put(T&&).
    template <typename Put>
    void take(Put&& put) {
        put(std::move(*front_));
        remove_front();
        --count_;
    }

private:
    static void enter_next(slab<T>*& in, T*& at, T*& end) noexcept {
        in = in->next;
        at = in->slots.begin();
        end = in->slots.end();
    }
    void remove_front() noexcept {
        std::destroy_at(front_);
        if (++front_ == front_end_) [[unlikely]]
            enter_next(front_slab_, front_, front_end_);
    }
    void insert(room one) noexcept {
        if (back_slab_ == nullptr)
            back_slab_ = one.get();
        one->next = std::exchange(back_slab_->next, one.get());
        if (one->next == nullptr)
            one->next = one.get();
        static_cast<void>(one.release());
    }

    T* front_ = nullptr; // never at the end of a slab
    T* front_end_ = nullptr;
    T* back_ = nullptr; // at the end of a slab until the next item comes
    T* back_end_ = nullptr;
    slab<T>* front_slab_ = nullptr;
    slab<T>* back_slab_ = nullptr;
    std::size_t count_ = 0;
    // So many items are in their slabs wherever the first of them lies in its own: all of the slabs
    // but one, and an item. (Of a single slab, which is the whole capacity: all of it.)
    std::size_t ready_ = 0;
    std::size_t capacity_ = 0;
};

// Last in, first out. A list of slabs.
template <typename T>
class lifo_store {
public:
    using room = std::unique_ptr<slab<T>>;

    lifo_store() = default;
    explicit lifo_store(std::size_t capacity) : lifo_store() {
        capacity_ = capacity;
        if (capacity == 0)
            return;
        room first = make_room(growth());
        static_cast<void>(add(first));
    }
    lifo_store(lifo_store&&) = delete;
    ~lifo_store() {
        while (count_ > 0)
            take([](T&&) {});
        while (last_ != nullptr)
            last_ = room {
                last_
            } -> previous;
    }
    void swap(lifo_store& other) noexcept {
        std::swap(top_, other.top_);
        std::swap(begin_, other.begin_);
        std::swap(end_, other.end_);
        std::swap(in_, other.in_);
        std::swap(last_, other.last_);
        std::swap(count_, other.count_);
        std::swap(ready_, other.ready_);
        std::swap(capacity_, other.capacity_);
    }

    [[nodiscard]] std::size_t size() const noexcept { return count_; }
    [[nodiscard]] std::size_t ready() const noexcept { return ready_; } // items, without growing
    [[nodiscard]] bool has_room() const noexcept { return count_ < ready_; }
    [[nodiscard]] bool can_grow() const noexcept { return ready_ < capacity_; }

    [[nodiscard]] std::size_t growth() const noexcept {
        return std::min(slab<T>::most, capacity_ - ready_);
    }
    static room make_room(std::size_t items) { return std::make_unique<slab<T>>(items); }
    [[nodiscard]] bool add(room& more) noexcept {
        if (!can_grow())
            return false;
        ready_ = std::min(capacity_, ready_ + more->slots.capacity());
        more->previous = last_;
        if (last_ != nullptr)
            last_->next = more.get();
        last_ = more.release();
        if (in_ == nullptr) {
            enter(last_);
            top_ = begin_;
        }
        return true;
    }

    void push(T&& item) {
        if (top_ == end_) [[unlikely]] {
            enter(in_->next);
            top_ = begin_;
        }
        std::construct_at(top_, std::move(item));
        ++top_;
        ++count_;
    }
    template <typename Put>
    void take(Put&& put) {
        if (top_ == begin_) [[unlikely]] {
            enter(in_->previous);
            top_ = end_;
        }
        put(std::move(top_[-1]));
        std::destroy_at(--top_);
        --count_;
    }

private:
    void enter(slab<T>* s) noexcept {
        in_ = s;
        begin_ = s->slots.begin();
        end_ = s->slots.end();
    }

    T* top_ = nullptr; // behind the last item
    T* begin_ = nullptr;
    T* end_ = nullptr;
    slab<T>* in_ = nullptr; // where top_ is
    slab<T>* last_ = nullptr;
    std::size_t count_ = 0;
    std::size_t ready_ = 0;
    std::size_t capacity_ = 0;
};

// The least first, by Less; equal ones in the order they came. A binary heap of the items'
// addresses, so that finding an item's place moves no items. Each level of the heap is an array of
// its own, twice as long as the one above it; the first few lie in one allocation. Places are
// numbered from 1, so that the children of n are 2n and 2n + 1.
template <typename T, typename Less>
class heap_store {
    struct place {
        T* item;            // of a free place a free slot
        std::uint64_t turn; // of two equal items the one with the smaller goes first
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

    // The next level; at first several.
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
        // The last place fills the hole at the top: find how far down it goes. The bits of `hole`
        // below the first are the way.
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
    // Gives its slot to the place behind all that have one.
    void use_another(place& p) noexcept {
        const std::size_t level = level_of(++used_);
        p.item = slots_[level] + (used_ - (std::size_t{1} << level));
    }
    [[nodiscard]] bool before(const place& a, const place& b) const {
        if (less_(std::as_const(*a.item), std::as_const(*b.item)))
            return true;
        return a.turn < b.turn && !less_(std::as_const(*b.item), std::as_const(*a.item));
    }

    // Of each level the capacity needs: the address at which place 0 would be, if the level went
    // back to it; its slots as they were allocated; and, of the first level in an allocation, that.
    std::unique_ptr<std::uintptr_t[]> levels_{};
    std::unique_ptr<T*[]> slots_{};
    std::unique_ptr<room[]> rooms_{};
    std::size_t count_ = 0;
    std::size_t used_ = 0; // so many places have a slot; of the others it is the one as allocated
    std::size_t ready_ = 0;
    std::size_t capacity_ = 0;
    std::uint64_t next_turn_ = 0;
    [[no_unique_address]] Less less_{};
};

} // namespace creel::sync::detail
