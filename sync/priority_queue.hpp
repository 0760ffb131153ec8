// A queue of which the least item comes out first (asyncio's PriorityQueue), equal ones in the
// order they came. Those who wait are served first come first served.
//
//     struct later { bool operator()(const job& a, const job& b) const { return a.due < b.due; } };
//     sync::priority_queue<job, later> jobs{1000};
//
// What is compared are the items in the queue: a pusher that waits for room comes in when its turn
// is, whatever its item's priority. Comparisons are made under a spinlock; they may throw.
#pragma once

#include <creel/sync/detail/basic_queue.hpp>
#include <creel/sync/detail/heap_store.hpp>

#include <concepts>
#include <functional>
#include <source_location>

namespace creel::sync {

// The contract is queue's. Cost: a push or pop compares log2(size) times, and moves its item only.
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
