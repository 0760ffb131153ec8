// A bounded queue between fibers and threads, many on either side: the usual way to hand on work.
//
//     sync::queue<request> requests{100};
//     n.spawn([&] { for (request& r : requests) { serve(r); requests.task_done(); } });
//     while (auto r = read()) if (!requests.push(std::move(*r))) break; // waits while it is full
//     requests.close(); // the loop above ends when it has drained the queue
//
// With capacity 0 it is a rendezvous: a push waits until a pop takes its item, from hand to hand.
// First come, first served, on both sides. priority_queue.hpp and stack_queue.hpp have the same
// contract and other orders. The functions are documented in detail/basic_queue.hpp:
//
//     push pop pop_some try_push try_pop close() close(discard) task_done join begin end
//     capacity size empty closed statistics
//
// T need only be movable, and its moves may throw: the item is then where it was. Moves are made
// with the primitive's lock held, so they must neither wait nor touch the queue. Memory is taken as
// the queue fills, so a large capacity costs nothing by itself, and is kept for later items; about
// 8 KB or less is allocated at the beginning. Growth moves no item, and allocates with the lock
// free. Destroying a queue at which a caller waits is a bug, and is caught.
#pragma once

#include <creel/sync/detail/basic_queue.hpp>
#include <creel/sync/detail/fifo_store.hpp>

#include <concepts>
#include <source_location>

namespace creel::sync {

template <typename T>
class queue : public detail::basic_queue<T, detail::fifo_store<T>> {
public:
    // A negative capacity is a bug, and is caught. Throws: std::bad_alloc.
    template <std::integral N>
    explicit queue(N capacity, std::source_location made_at = std::source_location::current())
        : detail::basic_queue<T, detail::fifo_store<T>>(
              "queue", detail::checked_capacity(capacity, "queue", made_at), made_at) {}
};

} // namespace creel::sync
