// Tasks that get no fiber when their turn comes, and the reserve fiber that ends those that will
// not run. The states of such a task:
//
//   queued ---- max_fibers are there ---------> in line       at the back
//   in line --- a carrier has ended, or ------> queued        in front of all that is ready, and at
//               rests: rest()                                 the front of the line if there are
//                                                             max_fibers again all the same
//   in line --- its nursery is cancelled -----> dropped
//   queued ---- no memory, carriers end ------> awaiting memory
//   awaiting memory --- they have ended ------> queued
//   queued ---- no memory, and none ends -----> dropped       with `no_memory`: it fails
//   queued ---- max_fibers, and cancelled ----> dropped
//   dropped --- the reserve gets to it -------> ended
//
// The user's code (the closure's destructor, the handler of report()) needs a fiber, and there may
// be none. The reserve is that fiber: each run holds a stack for it from the beginning. Only a
// handler may wait. While one waits, other handlers wait behind it, and no other task does: the
// loop itself ends the tasks without a handler, on the stack it runs on.
#include <creel/fibers/detail/run/scheduler.hpp>

#include <creel/fibers/cancel_scope.hpp>

#include <exception>
#include <new>

namespace creel::detail {

namespace {

class no_stack final : public std::bad_alloc {
public:
    [[nodiscard]] const char* what() const noexcept override {
        return "no memory for the stack of a child: {.max_fibers = ...} makes it wait until "
               "another has ended";
    }
};

} // namespace

// No idle carrier has a stack for this task. Null: it waits for one, or is dropped.
fiber_record* scheduler::bind_new(task_record& t) {
    if (options_.max_fibers != 0 && carriers_.alive() >= options_.max_fibers) {
        if (t.parent->cancelled_for_children()) // while it was queued
            drop(t);
        else
            wait_in_line(t);
        return nullptr;
    }
    if (fiber_record* f = create_carrier(t.stack_bytes)) {
        give(*f, t);
        return f;
    }
    // The stacks of idle carriers come first: these end, and then the task looks again.
    carriers_.end_idle(carriers_.idle(), ready_);
    if (carriers_.ending() != 0) {
        awaiting_memory_.push(t);
        return nullptr;
    }
    t.no_memory = true;
    drop(t);
    call_from_line(); // the place that this task was called for is still free
    return nullptr;
}

void scheduler::wait_in_line(task_record& t) noexcept {
    if (t.was_called)
        line_.push_front(t);
    else
        line_.push(t);
    carriers_.end_idle(1, ready_); // an idle one has too small a stack, and makes room
}

// The oldest in line goes before all that is ready.
void scheduler::call_from_line() noexcept {
    if (task_record* first = line_.front()) {
        line_.erase(*first);
        first->was_called = true;
        ready_.push_front(*first);
    }
}

void scheduler::drop(task_record& t) noexcept {
    dropped_.push(t);
    if (!reserve_is_there_)
        start_reserve();
}

void scheduler::drop_from_line(task_record& t) noexcept {
    line_.erase(t);
    drop(t);
}

void scheduler::start_reserve() noexcept {
    reserve_is_there_ = true;
    make_ready(start_context(reserve_stack_, &scheduler::run_reserve));
}

void scheduler::reserve_ended() noexcept {
    reserve_is_there_ = false;
    if (!dropped_.empty())
        start_reserve();
}

// True if a handler of the user is to be told of its end.
bool scheduler::tells_handler(const task_record& t) noexcept {
    return t.no_memory && !t.parent->cancelled_for_children() && t.parent->has_handler();
}

void scheduler::end_dropped(task_record& t) noexcept {
    t.destroy_closure();
    if (t.no_memory && !t.parent->cancelled_for_children())
        end_with(t, ending::failed, std::make_exception_ptr(no_stack{}));
    else
        end_with(t, ending::never_ran, nullptr);
}

// The body of the reserve fiber, which ends when nothing is left to drop.
void scheduler::run_reserve(fiber_record& self) noexcept {
    while (runnable* r = dropped_.pop()) {
        auto& t = static_cast<task_record&>(*r);
        give(self, t);
        reserve_may_wait_ = tells_handler(t);
        end_dropped(t);
        reserve_may_wait_ = false;
        self.current = nullptr;
        self.scope = nullptr;
        spend_budget(); // there may be many
    }
}

// Called by the loop: while a handler waits on the reserve.
void scheduler::end_dropped_meanwhile() noexcept {
    if (!reserve_may_wait_)
        return;
    ready_queue others;
    while (runnable* r = dropped_.pop()) {
        auto& t = static_cast<task_record&>(*r);
        if (tells_handler(t))
            others.push(t);
        else
            end_dropped(t);
    }
    if (!others.empty())
        dropped_.prepend(others);
}

} // namespace creel::detail
