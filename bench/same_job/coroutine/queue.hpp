#pragma once

// A bounded queue between coroutines of one loop. After close() a push gives false; a pop gives
// what is left, and then nothing. Memory is taken as the queue fills. A push or pop that need not
// wait does not suspend, and does not look whether its scope is cancelled.

#include "loop.hpp"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

namespace same_job::coroutine {

template <class T>
class queue {
public:
    // With 0 places a push waits for its pop.
    explicit queue(std::size_t places) : places_(places) {}
    queue(const queue&) = delete;
    queue& operator=(const queue&) = delete;

    class push_awaiter;
    class pop_awaiter;

    // co_await: false, and the item is dropped, if the queue is closed.
    [[nodiscard]] push_awaiter push(T item) { return {*this, std::move(item)}; }
    // co_await: empty if the queue is closed and has no items.
    [[nodiscard]] pop_awaiter pop() { return pop_awaiter{*this}; }

    // False if it is full or closed; the item is then unchanged.
    [[nodiscard]] bool try_push(T&& item) {
        if (closed_)
            return false;
        if (!poppers_.empty()) {
            waiter& w = poppers_.pop_front();
            w.item.emplace(std::move(item));
            w.wake();
            return true;
        }
        if (size_ == places_)
            return false;
        append(std::move(item));
        return true;
    }

    [[nodiscard]] std::optional<T> try_pop() {
        std::optional<T> item;
        if (size_ > 0) {
            item.emplace(std::move(items_[first_]));
            first_ = place(1);
            --size_;
            if (!pushers_.empty())
                append(std::move(taken_from(pushers_.pop_front())));
        } else if (!pushers_.empty()) {
            item.emplace(std::move(taken_from(pushers_.pop_front())));
        }
        return item;
    }

    // Waiting pushes give false.
    void close() {
        closed_ = true;
        while (!pushers_.empty())
            pushers_.pop_front().wake();
        while (!poppers_.empty())
            poppers_.pop_front().wake();
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

private:
    // An awaiter makes one only when it has to wait.
    struct waiter : list_node<waiter>, cancel_entry {
        explicit waiter(std::optional<T>& place) noexcept
            : cancel_entry(&cancel_this), item(place) {}
        static void cancel_this(cancel_entry& e) noexcept {
            auto& self = static_cast<waiter&>(e);
            self.list_node<waiter>::unlink();
            self.cancelled = true;
            loop::current().ready(self.coroutine);
        }
        template <class Promise>
        void wait(std::coroutine_handle<Promise> waiting, list<waiter>& where) {
            waiting.promise().scope->add(*this);
            coroutine = waiting;
            where.push_back(*this);
        }
        void wake() {
            cancel_entry::unlink();
            loop::current().ready(coroutine);
        }

        std::optional<T>& item; // to be pushed, or the place of the item that will come
        std::coroutine_handle<> coroutine = nullptr;
        bool pushed = false;
        bool cancelled = false;
    };

    [[nodiscard]] std::size_t place(std::size_t offset) const noexcept {
        return (first_ + offset) & (items_.size() - 1);
    }
    void append(T item) {
        if (size_ == items_.size()) {
            std::vector<T> larger(std::max<std::size_t>(2 * size_, 16));
            for (std::size_t i = 0; i < size_; ++i)
                larger[i] = std::move(items_[place(i)]);
            items_.swap(larger);
            first_ = 0;
        }
        items_[place(size_++)] = std::move(item);
    }
    // A push that waits has got its place.
    static T& taken_from(waiter& w) {
        w.wake();
        w.pushed = true;
        return *w.item;
    }

    std::size_t places_;
    std::vector<T> items_{}; // a ring, its size a power of two
    std::size_t first_ = 0;
    std::size_t size_ = 0;
    bool closed_ = false;
    list<waiter> pushers_{};
    list<waiter> poppers_{};
};

template <class T>
class queue<T>::push_awaiter {
public:
    push_awaiter(queue& to, T&& item) : to_(to), item_(std::move(item)) {}

    [[nodiscard]] bool await_ready() {
        pushed_ = to_.try_push(std::move(*item_));
        return pushed_ || to_.closed_;
    }
    template <task_promise Promise>
    void await_suspend(std::coroutine_handle<Promise> waiting) {
        waiter_.emplace(item_).wait(waiting, to_.pushers_);
    }
    [[nodiscard]] bool await_resume() const {
        if (!waiter_)
            return pushed_;
        if (waiter_->cancelled)
            throw operation_cancelled{};
        return waiter_->pushed;
    }

private:
    queue& to_;
    std::optional<T> item_;
    std::optional<waiter> waiter_{};
    bool pushed_ = false;
};

template <class T>
class queue<T>::pop_awaiter {
public:
    explicit pop_awaiter(queue& from) noexcept : from_(from) {}

    [[nodiscard]] bool await_ready() {
        item_ = from_.try_pop();
        return item_ || from_.closed_;
    }
    template <task_promise Promise>
    void await_suspend(std::coroutine_handle<Promise> waiting) {
        waiter_.emplace(item_).wait(waiting, from_.poppers_);
    }
    [[nodiscard]] std::optional<T> await_resume() {
        if (waiter_ && waiter_->cancelled)
            throw operation_cancelled{};
        return std::move(item_);
    }

private:
    queue& from_;
    std::optional<T> item_{};
    std::optional<waiter> waiter_{};
};

} // namespace same_job::coroutine
