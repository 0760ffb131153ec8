// The timers of one scheduler, in user space: only the earliest deadline reaches the kernel, as the
// timeout of its wait. A timer lives in its owner's memory, usually on the stack of a parked fiber:
//
//     timer wake_up{[](timer& due) noexcept { /* make its fiber ready */ }};
//     timers.arm(wake_up, clock::now() + 30s, 30s);
//     while (timer* due = timers.pop_due(now)) due->fire(*due);
//     timers.cancel(wake_up);
//
// Programs use few distinct durations, and cancel nearly every timer they arm. Timers of one
// duration, armed one after the other, come due in that order: they form a FIFO list, where arming
// and cancelling are a few stores. A 4-ary heap orders the lists, one node each, and the timers
// that fit no list. A wheel was rejected for its worst step (50 ms with a million timers), a tree
// for its cost (150 ns).
//
// The states of a timer (timer_node::place):
//
//     nowhere --1--> list  --4 or 5--> nowhere
//     nowhere --2--> heap  --4 or 5--> nowhere
//     nowhere --3--> never --5-------> nowhere
//
//   1  arm(), append()        there is a span, a list serves it, and no timer of that list has a
//                             later deadline
//   2  arm(), arm_in_heap()   the other timers
//   3  arm()                  the deadline is time_point::max()
//   4  pop_due()              the deadline has passed, and no other timer is earlier: the scheduler
//                             calls fire()
//   5  cancel()
//   rearm() is 5, then 2 or 3.
//
// The states of the head of a list. The key is the deadline under which the heap holds the head:
//
//     out of the heap --1--> exact --2--> stale --3--> exact
//            ^                              |
//            +---------------4--------------+
//
//   1  append(), lower_key()   the first timer of the list; also stale to exact, if that timer is
//                              earlier than the key
//   2  cancel(), pop_due()     the first timer leaves; the list may be empty now
//   3  pop_due()               the head has come up: it moves down to its first timer's deadline
//   4  pop_due()               the head has come up, and the list is empty
#pragma once

#include <creel/fibers/time.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

namespace creel::detail {

// The common part of a timer and the head of a list: a place in a ring of list members, a place in
// the heap, and the key by which the heap orders them.
struct timer_node {
    enum class place : std::uint32_t { nowhere, list, heap, never };

    timer_node* next = nullptr;
    timer_node* previous = nullptr;
    time_point deadline{};
    std::uint64_t sequence = 0; // the order of arming, which decides between equal deadlines
    std::uint32_t position = 0; // index in the heap
    place where = place::nowhere;
};

// A deadline, and the function to call then. A timer stays where it is while it is armed. It is
// cancelled or popped before its memory is freed.
struct timer : private timer_node {
    // Called by the scheduler, not by the queue, once pop_due has returned the timer.
    void (*fire)(timer&) noexcept;

    explicit timer(void (*on_fire)(timer&) noexcept = nullptr) noexcept : fire{on_fire} {}
    timer(const timer&) = delete;
    timer& operator=(const timer&) = delete;

    // The deadline of the latest arm.
    time_point deadline() const noexcept { return timer_node::deadline; }
    bool armed() const noexcept { return where != place::nowhere; }

private:
    friend class timer_queue;
};

// The queue does not own its timers, and does not touch them when it is destroyed: a timer that is
// still armed then must not be cancelled afterwards. Threads: the owner's only.
class timer_queue {
public:
    // Throws: std::bad_alloc.
    timer_queue();
    timer_queue(const timer_queue&) = delete;
    timer_queue& operator=(const timer_queue&) = delete;

    // Arms a timer that is not armed. `span` is the relative duration from which the caller made
    // the deadline, the key of the lists; zero if there is none. A deadline of time_point::max()
    // never comes due.
    // Throws: std::bad_alloc when the heap must grow and cannot; the timer is not armed then.
    // Cost: about 10 ns, no allocation once the heap has had its largest size.
    void arm(timer& added, time_point deadline, duration span);

    // Arms a timer anew, armed or not, without a span.
    // Throws: std::bad_alloc; the timer is armed as before then.
    void rearm(timer& moved, time_point deadline);

    // Does nothing to a timer that is not armed. Cost: as arm().
    void cancel(timer& removed) noexcept;

    // Not later than the earliest deadline, perhaps earlier: when the first timers of a list are
    // cancelled, the old key of the list stays until pop_due() has passed it. time_point::max()
    // when no timer is armed.
    time_point next_deadline() const noexcept;

    // Takes out and disarms the earliest timer with a deadline of `now` or before; null if there is
    // none. Equal deadlines come in the order of arming. Between two calls any timer may be armed
    // or cancelled.
    timer* pop_due(time_point now) noexcept;

    // Gives the memory of a past peak back. Call it when the thread has nothing else to do.
    void trim() noexcept;
    // True if trim() would give memory back.
    [[nodiscard]] bool has_surplus() const noexcept {
        return capacity_ > least_capacity && timers_in_heap_ <= capacity_ / 4;
    }

    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }

private:
    using place = timer_node::place;
    static constexpr std::uint32_t list_bits = 6;
    static constexpr std::size_t list_count = std::size_t{1} << list_bits;
    static constexpr std::size_t least_capacity = 192; // one page, together with the heads of lists

    // The timers of one duration, in a ring through this head; their deadlines do not decrease. The
    // head is a node of the heap; its key is a lower bound of the first deadline. The head stays in
    // the heap when the list runs empty. The next timer of this duration then finds it there, so
    // that arming and cancelling one timeout again and again never touches the heap. A head that
    // is not in the heap has the deadline max().
    struct list : timer_node {
        duration::rep span = 0;

        list() noexcept {
            next = previous = this;
            deadline = time_point::max();
            where = place::nowhere;
        }
        bool empty() const noexcept { return next == this; }
    };

    // It repeats the deadline, so that a comparison reads nothing but the heap.
    struct heap_entry {
        time_point deadline;
        timer_node* node;
    };

    struct free_memory {
        void operator()(void* memory) const noexcept { std::free(memory); }
    };

    static std::size_t list_of(duration span) noexcept;
    static bool before(const heap_entry& left, const heap_entry& right) noexcept;
    bool append(timer& added, duration span) noexcept;
    void lower_key(list& target, const timer& first) noexcept;
    void arm_in_heap(timer& added);
    void make_room();
    void resize(std::size_t capacity);
    void put(std::uint32_t position, heap_entry entry) noexcept;
    void sift_up(std::uint32_t position, heap_entry entry) noexcept;
    void sift_down(std::uint32_t position, heap_entry entry) noexcept;
    std::uint32_t earliest_child(std::uint32_t first) const noexcept;
    void remove(std::uint32_t position) noexcept;

    std::size_t size_ = 0;
    std::uint64_t next_sequence_ = 0;
    std::uint32_t heap_size_ = 0;
    std::uint32_t timers_in_heap_ = 0; // without the heads of lists
    std::size_t capacity_ = 0;         // room in the heap for timers, beside the room for all heads

    // Grown by realloc, not a vector: glibc moves a large block by mremap and does not copy it,
    // which bounds the worst step.
    std::unique_ptr<heap_entry[], free_memory> heap_;

    std::array<list, list_count> lists_;
};

inline std::size_t timer_queue::list_of(duration span) noexcept {
    // Fibonacci hashing (Knuth, TAOCP volume 3, section 6.4).
    return static_cast<std::size_t>(
        static_cast<std::uint64_t>(span.count()) * 0x9e37'79b9'7f4a'7c15U >> (64 - list_bits));
}

// False if the timer has no place in a list: the slot of its duration serves another duration, or
// the timer would come due before the last timer of the list.
inline bool timer_queue::append(timer& added, duration span) noexcept {
    list& target = lists_[list_of(span)];
    if (target.empty()) {
        target.span = span.count();
        if (added.deadline() < target.deadline) [[unlikely]]
            lower_key(target, added);
    } else if (target.span != span.count() || added.deadline() < target.previous->deadline) {
        return false;
    }
    added.where = place::list;
    added.next = &target;
    added.previous = target.previous;
    target.previous->next = &added;
    target.previous = &added;
    return true;
}

inline void timer_queue::arm(timer& added, time_point deadline, duration span) {
    added.timer_node::deadline = deadline;
    added.sequence = next_sequence_++;
    if (deadline == time_point::max()) [[unlikely]]
        added.where = place::never;
    else if (span <= duration::zero() || !append(added, span))
        arm_in_heap(added);
    ++size_;
}

inline void timer_queue::cancel(timer& removed) noexcept {
    if (removed.where == place::list) [[likely]] {
        removed.previous->next = removed.next;
        removed.next->previous = removed.previous;
    } else if (removed.where == place::heap) {
        --timers_in_heap_;
        remove(removed.position);
    } else if (removed.where == place::nowhere) {
        return;
    }
    removed.where = place::nowhere;
    --size_;
}

inline time_point timer_queue::next_deadline() const noexcept {
    return size_ == 0 || heap_size_ == 0 ? time_point::max() : heap_[0].deadline;
}

} // namespace creel::detail
