#include <creel/sync/detail/queue_core.hpp>

#include <creel/fibers/assert.hpp>

#include <mutex>

namespace creel::sync::detail {

const waiter_kind queue_waiter::kind = [] {
    waiter_kind made{&queue_waiter::withdraw, &queue_waiter::describe, true, true};
    made.add_details = &queue_waiter::add_details;
    made.needs_party = true;
    return made;
}();

// If the node is off its list, the party that took it has moved the item or has closed the queue.
// Its wake is on the way, and the push or pop is not cancelled.
withdrawal queue_waiter::withdraw(waiter& w, wake_reason) noexcept {
    auto& self = static_cast<queue_waiter&>(w);
    wait_list* from = self.leave_list();
    if (from == nullptr)
        return withdrawal::pending;
    from->guard().unlock();
    return withdrawal::withdrawn;
}

void queue_waiter::describe(const waiter& w, std::string& text) {
    static_cast<const queue_waiter&>(w).describe_list(text);
}

// While a waiter is in a list, the queue is empty or full.
void queue_waiter::add_details(const waiter& w, std::string& text) {
    const auto& self = static_cast<const queue_waiter&>(w);
    const queue_list* in = nullptr;
    std::size_t capacity = 0;
    bool pushes = false;
    self.look_at_list([&](const wait_list& list) {
        in = static_cast<const queue_list*>(&list);
        capacity = in->of.capacity;
        pushes = in->is_of_pushers;
    });
    if (in == nullptr)
        return; // its turn has come
    text += pushes ? ", to push: it has " + std::to_string(capacity) + " of " +
                         std::to_string(capacity) + " items"
                   : ", to pop: it is empty";
    self.describe_place(text);
}

// The outcome of each waiter is `closed` from the beginning.
void queue_core::close(wake_batch& to_wake) noexcept {
    closed = true;
    poppers.take_all(to_wake);
    pushers.take_all(to_wake);
}

void queue_core::close() noexcept {
    wake_batch to_wake;
    const std::lock_guard hold{guard};
    close(to_wake);
}

void queue_core::drop(std::size_t count, wake_batch& to_wake) noexcept {
    dropped += count;
    done += count;
    if (done == entered)
        joiners.take_all(to_wake);
}

void queue_core::task_done() noexcept {
    wake_batch to_wake;
    const std::lock_guard hold{guard};
    CREEL_ASSERT(done < entered,
                 guard.says("task_done() more often than items were pushed").c_str());
    if (++done == entered)
        joiners.take_all(to_wake);
}

void queue_core::join() {
    check_cancel();
    list_waiter me{plain_wait};
    {
        const std::lock_guard hold{guard};
        if (done == entered)
            return;
        joiners.push_back(me);
    }
    me.wait();
}

queue_statistics queue_core::statistics(std::size_t size) const noexcept {
    return {.capacity = capacity,
            .size = size,
            .pushed = entered,
            .dropped = dropped,
            .unfinished = entered - done,
            .pushers = pushers.size(),
            .poppers = poppers.size(),
            .joiners = joiners.size(),
            .closed = closed};
}

void negative_capacity(const char* what, std::source_location made_at) noexcept {
    const std::string text = wait_lock{what, made_at}.says("its capacity must not be negative");
    assertion_failed("capacity >= 0", text.c_str(), made_at);
}

} // namespace creel::sync::detail
