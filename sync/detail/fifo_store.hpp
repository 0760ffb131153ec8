// The store of a queue: first in, first out. See item_store.hpp for what every store does.
#pragma once

#include <creel/sync/detail/item_store.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

namespace creel::sync::detail {

// A ring of slabs. The items begin in the slab of front_ and end in the slab of back_; behind that
// come the slabs without items, and then the slab of front_ again.
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
    // A new slab fits only behind the last item, so only while the store is full: a ring without
    // items has no such place.
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

    // Passes the first item to put(T&&), and removes it.
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
    // This many items always fit into the slabs, wherever the first item lies in its slab: all
    // slabs except one, and one item more. (A single slab holds the whole capacity, and all of it
    // fits.)
    std::size_t ready_ = 0;
    std::size_t capacity_ = 0;
};

} // namespace creel::sync::detail
