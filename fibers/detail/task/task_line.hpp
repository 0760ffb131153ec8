// The tasks that wait for a fiber because there are max_fibers: a FIFO that each task can leave.
#pragma once

#include <creel/fibers/detail/task/task_record.hpp>

#include <cstddef>

namespace creel::detail {

// Threads: the scheduler's own. Cost: some stores each.
class task_line {
public:
    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
    [[nodiscard]] task_record* front() const noexcept { return first_; } // null when empty

    void push(task_record& t) noexcept {
        t.in_line = true;
        t.next_ready = nullptr;
        t.previous_in_line = last_;
        if (last_ != nullptr)
            last_->next_ready = &t;
        else
            first_ = &t;
        last_ = &t;
    }
    void push_front(task_record& t) noexcept {
        t.in_line = true;
        t.next_ready = first_;
        t.previous_in_line = nullptr;
        (first_ != nullptr ? first_->previous_in_line : last_) = &t;
        first_ = &t;
    }
    void erase(task_record& t) noexcept {
        auto* const next = static_cast<task_record*>(t.next_ready);
        if (t.previous_in_line != nullptr)
            t.previous_in_line->next_ready = next;
        else
            first_ = next;
        (next != nullptr ? next->previous_in_line : last_) = t.previous_in_line;
        t.in_line = false;
    }

private:
    task_record* first_ = nullptr;
    task_record* last_ = nullptr;
};

} // namespace creel::detail
