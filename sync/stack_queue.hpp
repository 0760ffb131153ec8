// A queue that gives its youngest item first (asyncio's LifoQueue): for work that is best done
// while its data is in the cache, and for free lists. Waiters are still served first come, first
// served.
//
//     sync::stack_queue<buffer> spare{16};
#pragma once

#include <creel/sync/detail/basic_queue.hpp>
#include <creel/sync/detail/lifo_store.hpp>

#include <concepts>
#include <source_location>

namespace creel::sync {

// The contract is that of queue.
template <typename T>
class stack_queue : public detail::basic_queue<T, detail::lifo_store<T>> {
public:
    // A negative capacity is a bug, and is caught. Throws: std::bad_alloc.
    template <std::integral N>
    explicit stack_queue(N capacity, std::source_location made_at = std::source_location::current())
        : detail::basic_queue<T, detail::lifo_store<T>>(
              "stack_queue", detail::checked_capacity(capacity, "stack_queue", made_at), made_at) {}
};

} // namespace creel::sync
