// A bounded queue between the fibers of one scheduler, until sync/ has one.
#pragma once

#include "wait_list.hpp"

#include <creel/fibers/waiter.hpp>

#include <cstddef>
#include <deque>
#include <optional>
#include <utility>

namespace demo {

template <typename T>
class queue {
public:
    explicit queue(std::size_t capacity) : capacity_(capacity) {
        CREEL_ASSERT(capacity > 0, "a queue needs room for one item");
    }

    // False if the queue is closed; the item is dropped then.
    // Parks: while the queue is full. Cancel: yes, the item is not in the queue then.
    [[nodiscard]] bool push(T item) {
        creel::check_cancel();
        if (closed_)
            return false;
        if (auto* who = static_cast<popper*>(poppers_.first())) {
            who->item = std::move(item);
            poppers_.serve(*who);
            return true;
        }
        if (items_.size() < capacity_) {
            items_.push_back(std::move(item));
            return true;
        }
        pusher me{pushers_, item};
        pushers_.wait(me);
        return me.taken;
    }

    // Empty once the queue is closed and everything in it is taken.
    // Parks: while the queue is empty. Cancel: yes, no item is lost by it.
    [[nodiscard]] std::optional<T> pop() {
        creel::check_cancel();
        if (!items_.empty()) {
            if (auto* who = static_cast<pusher*>(pushers_.first())) {
                items_.push_back(std::move(who->item));
                who->taken = true;
                pushers_.serve(*who);
            }
            std::optional<T> item{std::move(items_.front())};
            items_.pop_front();
            return item;
        }
        if (closed_)
            return {};
        popper me{poppers_};
        poppers_.wait(me);
        return std::move(me.item);
    }

    // Nothing more comes in; those who wait are told. Never parks.
    void close() noexcept {
        closed_ = true;
        while (auto* who = poppers_.first())
            poppers_.serve(*who);
        while (auto* who = pushers_.first())
            pushers_.serve(*who);
    }

    [[nodiscard]] std::size_t size() const noexcept { return items_.size(); }

private:
    struct popper : wait_list::entry {
        using wait_list::entry::entry;
        std::optional<T> item{}; // stays empty if the queue was closed
    };
    struct pusher : wait_list::entry {
        pusher(wait_list& list, T& what) noexcept : wait_list::entry(list), item(what) {}
        T& item;
        bool taken = false;
    };

    std::size_t capacity_;
    std::deque<T> items_{};
    bool closed_ = false;
    wait_list poppers_{"an item in a queue"}; // only while items_ is empty
    wait_list pushers_{"room in a queue"};    // only while items_ is full
};

} // namespace demo
