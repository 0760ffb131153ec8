#pragma once

// Timers in a heap. A timer lies in the object that waits, and knows its place in the heap, so that
// it leaves in O(log n).

#include <chrono>
#include <cstddef>
#include <utility>
#include <vector>

namespace same_job::coroutine {

using clock = std::chrono::steady_clock;

class timer {
public:
    using function = void (*)(timer&) noexcept;
    explicit timer(function fire) noexcept : fire_(fire) {}
    timer(const timer&) = delete;
    timer& operator=(const timer&) = delete;

private:
    friend class timer_heap;
    static constexpr std::size_t nowhere = ~std::size_t{0};
    function fire_; // must not resume a coroutine
    std::size_t place_ = nowhere;
};

class timer_heap {
public:
    void arm(timer& t, clock::time_point when) {
        heap_.push_back({when, &t});
        rise(heap_.size() - 1, heap_.back());
    }

    // Does nothing if it has fired, or was never armed.
    void disarm(timer& t) noexcept {
        if (t.place_ == timer::nowhere)
            return;
        const std::size_t hole = std::exchange(t.place_, timer::nowhere);
        const entry last = heap_.back();
        heap_.pop_back();
        if (hole == heap_.size())
            return;
        if (hole > 0 && last.when < heap_[parent(hole)].when)
            rise(hole, last);
        else
            sink(hole, last);
    }

    [[nodiscard]] bool empty() const noexcept { return heap_.empty(); }
    [[nodiscard]] clock::time_point first() const noexcept { return heap_.front().when; }

    // Fires those whose time has come.
    void fire(clock::time_point now) noexcept {
        while (!heap_.empty() && heap_.front().when <= now) {
            timer& t = *heap_.front().what;
            disarm(t);
            t.fire_(t);
        }
    }

private:
    struct entry {
        clock::time_point when;
        timer* what;
    };

    // Four children: half as deep as with two, and the children share cache lines.
    static constexpr std::size_t children = 4;
    static constexpr std::size_t parent(std::size_t place) noexcept {
        return (place - 1) / children;
    }

    void put(std::size_t place, entry e) noexcept {
        heap_[place] = e;
        e.what->place_ = place;
    }
    void rise(std::size_t place, entry e) noexcept {
        for (; place > 0 && e.when < heap_[parent(place)].when; place = parent(place))
            put(place, heap_[parent(place)]);
        put(place, e);
    }
    void sink(std::size_t place, entry e) noexcept {
        for (;;) {
            std::size_t least = place * children + 1;
            if (least >= heap_.size())
                break;
            for (std::size_t i = least + 1; i < heap_.size() && i <= place * children + children;
                 ++i)
                if (heap_[i].when < heap_[least].when)
                    least = i;
            if (e.when <= heap_[least].when)
                break;
            put(place, heap_[least]);
            place = least;
        }
        put(place, e);
    }

    std::vector<entry> heap_{};
};

} // namespace same_job::coroutine
