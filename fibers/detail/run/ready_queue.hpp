// The FIFO of all that can run: woken fibers and unstarted tasks, linked through themselves.
#pragma once

#include <creel/fibers/detail/task/task_record.hpp>

namespace creel::detail {

// Threads: the scheduler's own.
class ready_queue {
public:
    [[nodiscard]] bool empty() const noexcept { return head_ == nullptr; }

    void push(runnable& r) noexcept {
        r.next_ready = nullptr;
        *tail_ = &r;
        tail_ = &r.next_ready;
    }

    // Pushes one and pops another: the queue must not be empty. Cheaper than both.
    runnable* exchange(runnable& r) noexcept {
        push(r);
        runnable* first = head_;
        head_ = first->next_ready;
        return first;
    }

    void push_front(runnable& r) noexcept {
        r.next_ready = head_;
        if (head_ == nullptr)
            tail_ = &r.next_ready;
        head_ = &r;
    }

    // Takes over all of another queue, in front of its own. The other must not be empty.
    void prepend(ready_queue& others) noexcept {
        *others.tail_ = head_;
        if (head_ == nullptr)
            tail_ = others.tail_;
        head_ = others.head_;
        others.head_ = nullptr;
        others.tail_ = &others.head_;
    }

    // Null when empty.
    [[nodiscard]] runnable* front() const noexcept { return head_; }
    runnable* pop() noexcept {
        runnable* first = head_;
        if (first != nullptr) {
            head_ = first->next_ready;
            if (head_ == nullptr)
                tail_ = &head_;
        }
        return first;
    }

private:
    runnable* head_ = nullptr;
    runnable** tail_ = &head_;
};

} // namespace creel::detail
