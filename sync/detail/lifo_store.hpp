// The store of a stack_queue: last in, first out. See item_store.hpp for what every store does.
#pragma once

#include <creel/sync/detail/item_store.hpp>

#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>

namespace creel::sync::detail {

// A list of slabs.
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
    [[nodiscard]] std::size_t ready() const noexcept { return ready_; } // items without growth
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
    slab<T>* in_ = nullptr; // the slab of top_
    slab<T>* last_ = nullptr;
    std::size_t count_ = 0;
    std::size_t ready_ = 0;
    std::size_t capacity_ = 0;
};

} // namespace creel::sync::detail
