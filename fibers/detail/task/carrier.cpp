// Tasks, and the carriers that run them: recycled fibers that take one task after another.
#include <creel/fibers/detail/run/scheduler.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/cancel/audit.hpp>
#include <creel/fibers/detail/report/throw_trace.hpp>
#include <creel/fibers/detail/system/instrumented.hpp>
#include <creel/fibers/detail/task/task_result.hpp>
#include <creel/fibers/local.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <utility>

namespace creel::detail {

void scheduler::keep_task(task_record& t, task_result& r) noexcept {
    t.result = &r;
    r.node = &t;
    r.home = this;
    r.run = run_number();
    tasks_.count_kept();
}

void scheduler::free_kept_task(task_record& t, std::uint64_t run) noexcept {
    if (run == run_number())
        tasks_.free_kept(t);
    else
        task_store::free_left_behind(t);
}

fiber_record* scheduler::create_carrier(std::size_t stack_bytes) {
    try {
        fiber_record& f = start_context(stacks_->allocate(stack_bytes), &scheduler::run_carrier);
        f.has_default_stack = stack_bytes == options_.stack_bytes;
        carriers_.was_created(f);
        ++counters_.fibers_created;
        return &f;
    } catch (const std::bad_alloc&) {
        if (!std::exchange(told_of_no_memory_, true))
            std::fprintf(
                stderr,
                "creel: no memory for another stack, of %zu bytes, beside %zu: a child "
                "without one fails; {.max_fibers = ...} makes it wait for another to end\n",
                stack_bytes, carriers_.alive());
        return nullptr;
    }
}

void scheduler::carrier_ended(stack_memory memory) noexcept {
    if (memory.top == reserve_stack_.top) {
        reserve_ended();
        return;
    }
    if (carriers_.ended())
        stacks_->release_unneeded(memory);
    else
        stacks_->release(memory);
    if (carriers_.ending() == 0 && !awaiting_memory_.empty())
        ready_.prepend(awaiting_memory_);
    call_from_line();
}

[[gnu::always_inline]] inline void scheduler::run_task(task_record& t) noexcept {
    if (t.parent->cancelled_for_children()) [[unlikely]] { // it never starts
        t.destroy_closure();
        end_with(t, ending::never_ran, nullptr);
        return;
    }
    std::exception_ptr error;
    auto how = ending::returned;
    try {
        t.kind_of_closure->invoke(t.closure());
    } catch (const throw_probe&) {
    } catch (const cancelled&) {
        error = std::current_exception();
        how = ending::cancelled;
    } catch (...) {
        error = std::current_exception();
        how = ending::failed;
    }
    // The closure's objects are destroyed before the nursery hears of the end.
    t.destroy_closure();
    if (meter_) [[unlikely]] { // one look serves both: enter() makes a meter in debug mode, too
        if (options_.debug)
            audit_end(*current_, error == nullptr);
        meter_->measure_ended(t, current_->stack);
    }
    CREEL_ASSERT(current_->scope == &core_of(t.parent->scope),
                 "a task ended inside a scope it entered");
    if (error == nullptr && t.result == nullptr && t.locals == nullptr) [[likely]]
        end_task(t);
    else
        end_with(t, how, std::move(error));
}

// The task has returned, and no handle asks for its value.
[[gnu::always_inline]] inline void scheduler::end_task(task_record& t) noexcept {
    t.parent->free_slot();
    t.parent->child_ended(t);
    tasks_.free(t);
    ++counters_.tasks_finished;
    --tasks_alive_;
}

// The user's code comes first, while t is still a child like any other. Only its place among
// max_children is free already, because a supervisor needs it to spawn another. The handler of
// report() may wait, be cancelled, read locals and drop the handle, and other fibers may do so
// meanwhile. After it no call switches.
void scheduler::end_with(task_record& t, ending how, std::exception_ptr error) noexcept {
    nursery_core& parent = *t.parent;
    const bool by_cancel =
        how == ending::never_ran || (how == ending::cancelled && parent.cancelled_for_children());
    const bool reported = error != nullptr && !by_cancel && parent.reports();
    if (reported) {
        parent.free_slot();
        parent.report(error, t);
        if (t.result == nullptr)
            error = nullptr; // its destructor is the user's code, too
    }
    if (t.locals != nullptr) [[unlikely]]
        drop_locals(std::exchange(t.locals, nullptr));
    t.runner = nullptr;
    task_result* result = t.result;
    // A fiber in get() is woken before the nursery may cancel it: it has its result.
    if (result != nullptr)
        result->end(error, by_cancel ? core_of(parent.scope).reason_in_sight() : nullptr);
    if (how == ending::never_ran)
        parent.child_never_ran();
    else if (error != nullptr && !reported)
        parent.failed(std::move(error), how == ending::cancelled, &t);
    if (!reported)
        parent.free_slot();
    parent.child_ended(t);
    if (result == nullptr)
        tasks_.free(t);
    else
        result->forget_if_dropped(); // if it was not dropped, the handle frees the task
    ++counters_.tasks_finished;
    --tasks_alive_;
}

// The usual case of rest(): the next in the queue is a task, and no poll is due.
inline bool scheduler::take_next_task(fiber_record& self) noexcept {
    runnable* r = ready_.front();
    if (r == nullptr || r->kind != runnable::kind_type::task || !pace_.switch_is_left() ||
        !line_.empty() || !can_run(self, static_cast<task_record&>(*r)))
        return false;
    pace_.pass_switch_left();
    ready_.pop();
    give(self, static_cast<task_record&>(*r));
    renew_budget(self);
    return true;
}

void scheduler::run_carrier(fiber_record& self) noexcept {
    while (self.current != nullptr) {
        run_task(*self.current);
        if (!take_next_task(self))
            rest(self);
    }
    carriers_.leaves(self);
    carrier_leaves(self);
}

// Until bind() gives it a task, or end_idle() tells it to end.
template <bool traced>
[[gnu::always_inline]] inline void scheduler::lie_idle(fiber_record& self,
                                                       fiber_record& next) noexcept {
    carriers_.put(self);
    if constexpr (traced)
        recorder_->runs(next);
    switch_to(next);
}

// Returns as rest().
template <bool traced>
[[gnu::always_inline]] inline void scheduler::look_for_work(fiber_record& self,
                                                            bool surplus) noexcept {
    for (;; count_turn()) {
        if (dispatcher_due_) {
            if (surplus)
                break; // Boost ends it, and then runs the dispatcher
            dispatcher_held_ = false;
            lie_idle<traced>(self, *dispatcher_);
            return;
        }
        runnable* r = pace_.pop(ready_);
        if (r == nullptr) {
            if (surplus)
                break;
            idle_round();
            continue;
        }
        if (r->kind == runnable::kind_type::task && can_run(self, static_cast<task_record&>(*r))) {
            give(self, static_cast<task_record&>(*r));
            if constexpr (traced)
                recorder_->runs(self);
            renew_budget(self);
            return;
        }
        if (surplus) {
            ready_.push_front(*r);
            break;
        }
        fiber_record* next = r->kind == runnable::kind_type::task
                                 ? bind(static_cast<task_record&>(*r))
                                 : static_cast<fiber_record*>(r);
        if (next != nullptr) {
            lie_idle<traced>(self, *next);
            return;
        }
    }
    carriers_.will_end();
}

// Between two tasks a carrier takes the next unstarted one in place, without a switch, or lets
// others run. Returns with self.current set, or null if the carrier is to end.
void scheduler::rest(fiber_record& self) noexcept {
    self.current = nullptr;
    self.scope = nullptr;
    const bool surplus = carriers_.has_no_use_for(self);
    if (const task_record* first = line_.front()) {
        if (can_run(self, *first)) {
            call_from_line();
        } else if (carriers_.ending() == 0) {
            carriers_.will_end(); // it makes room for a larger stack, whatever else is ready
            return;
        }
    }
    if (!pace_.pass_switch()) [[unlikely]] {
        if (poll_is_due())
            poll_round();
        if (recorder_) { // in a traced run each switch comes here
            look_for_work<true>(self, surplus);
            return;
        }
    }
    look_for_work<false>(self, surplus);
}

} // namespace creel::detail
