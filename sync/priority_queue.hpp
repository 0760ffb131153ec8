// A queue that gives its least item first (asyncio's PriorityQueue), and equal items in the order
// in which they came. Waiters are served first come, first served.
//
//     struct later { bool operator()(const job& a, const job& b) const { return a.due < b.due; } };
//     sync::priority_queue<job, later> jobs{1000};
//
// Only items in the queue are compared: a push that waits for room comes in at its turn, whatever
// the priority of its item. Comparisons are made with the primitive's lock held; they may throw.
#pragma once

#include <creel/sync/detail/basic_queue.hpp>
#include <creel/sync/detail/heap_store.hpp>

#include <concepts>
#include <functional>
#include <source_location>

namespace creel::sync {

// The contract is that of queue. Cost: a push or pop compares log2(size) times, and moves only its
// own item.
template <typename T, typename Less = std::less<T>>
class priority_queue : public detail::basic_queue<T, detail::heap_store<T, Less>> {
public:
    // A negative capacity is a bug, and is caught. Throws: std::bad_alloc.
    template <std::integral N>
    explicit priority_queue(N capacity,
                            std::source_location made_at = std::source_location::current())
        : detail::basic_queue<T, detail::heap_store<T, Less>>(
              "priority_queue", detail::checked_capacity(capacity, "priority_queue", made_at),
              made_at) {}
};

} // namespace creel::sync
