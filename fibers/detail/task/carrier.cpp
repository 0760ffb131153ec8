// Tasks, and the carriers that run them: recycled fibers that take one task after another.
#include <creel/fibers/detail/run/scheduler.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/system/instrumented.hpp>
#include <creel/fibers/detail/task/task_result.hpp>
#include <creel/fibers/local.hpp>
#include <creel/fibers/nursery.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <new>
#include <utility>

namespace creel::detail {

namespace {

// Idle carriers kept warm during a run; a finishing carrier beyond these ends.
constexpr std::size_t kept_idle_carriers = 4096;

// From a sanitizer, recycled tasks would hide a use after free.
constexpr bool keeps_warm_tasks = CREEL_UNDER_ASAN + CREEL_UNDER_TSAN == 0;
constexpr std::size_t most_warm_tasks = 1024;

} // namespace

task_record* scheduler::make_task(nursery_core& parent, std::size_t bytes, std::size_t align,
                                  std::source_location where) {
    std::uint32_t granted = 0;
    void* node = nodes_->allocate(task_record::node_size(bytes, align), granted);
    task_record* t = task_record::place(node, granted, align, where);
    t->parent = &parent;
    t->stack_bytes = options_.stack_bytes;
    t->id = take_id();
    return t;
}

// Made on another thread, which knows neither our numbers nor our stacks.
void scheduler::adopt_task(task_record& t, nursery_core& parent) noexcept {
    t.parent = &parent;
    if (t.stack_bytes == 0)
        t.stack_bytes = options_.stack_bytes;
    t.id = take_id();
}

// Leaves in a warm task what take_warm_task and its caller need not write.
[[gnu::always_inline]] inline void scheduler::recycle_task(task_record& t) noexcept {
    if (!keeps_warm_tasks || t.node_bytes != warm_task_bytes || t.offset != sizeof(task_record) ||
        warm_task_count_ == most_warm_tasks) [[unlikely]] {
        const std::uint32_t granted = t.node_bytes;
        t.~task_record();
        nodes_->deallocate(&t, granted);
        return;
    }
    t.next = nullptr;
    t.runner = nullptr;
    t.result = nullptr;
    t.no_memory = false;
    t.was_called = false;
    if (!t.given_name.empty())
        t.given_name = std::string{}; // and what it may have allocated
    t.next_ready = warm_tasks_;
    warm_tasks_ = &t;
    ++warm_task_count_;
}

void scheduler::free_task(task_record& t) noexcept {
    recycle_task(t);
}

void scheduler::cool_tasks(std::size_t count) noexcept {
    for (; count != 0; --count) {
        task_record* const t = warm_tasks_;
        warm_tasks_ = static_cast<task_record*>(t->next_ready);
        --warm_task_count_;
        const std::uint32_t granted = t->node_bytes;
        t->~task_record();
        nodes_->deallocate_unneeded(t, granted);
    }
}

void scheduler::keep_task(task_record& t, task_result& r) noexcept {
    t.result = &r;
    r.node = &t;
    r.home = this;
    r.run = run_number();
    ++kept_tasks_;
}

void scheduler::free_kept_task(task_record& t, std::uint64_t run) noexcept {
    if (run == run_number()) {
        --kept_tasks_;
        free_task(t);
    } else {
        const std::uint32_t granted = t.node_bytes;
        t.~task_record();
        node_pool::deallocate_left_behind(&t, granted);
    }
}

fiber_record* scheduler::create_carrier(std::size_t stack_bytes) {
    try {
        fiber_record& f = start_context(stacks_->allocate(stack_bytes), &scheduler::run_carrier);
        f.has_default_stack = stack_bytes == options_.stack_bytes;
        ++carriers_;
        ++counters_.fibers_created;
        return &f;
    } catch (const std::bad_alloc&) {
        if (!std::exchange(told_of_no_memory_, true))
            std::fprintf(
                stderr,
                "creel: no memory for another stack, of %zu bytes, beside %zu: a child "
                "without one fails; {.max_fibers = ...} makes it wait for another to end\n",
                stack_bytes, carriers_);
        return nullptr;
    }
}

void scheduler::carrier_ended(stack_memory memory) noexcept {
    if (memory.top == reserve_stack_.top) {
        reserve_ended();
        return;
    }
    if (unneeded_carriers_ != 0) {
        --unneeded_carriers_;
        stacks_->release_unneeded(memory);
    } else {
        stacks_->release(memory);
    }
    --carriers_;
    if (--ending_ == 0 && !awaiting_memory_.empty())
        ready_.prepend(awaiting_memory_);
    call_from_line();
}

void scheduler::end_idle(std::size_t count) noexcept {
    for (; count != 0 && idle_ != nullptr; --count) {
        fiber_record& f = *idle_;
        idle_ = f.next_idle;
        --idle_count_;
        f.current = nullptr;
        ++ending_;
        make_ready(f);
    }
    idle_low_ = std::min(idle_low_, idle_count_);
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
    } catch (const cancelled&) {
        error = std::current_exception();
        how = ending::cancelled;
    } catch (...) {
        error = std::current_exception();
        how = ending::failed;
    }
    // What f owned is released before the nursery hears of the end.
    t.destroy_closure();
    if (meter_) [[unlikely]]
        meter_->measure_ended(t, current_->stack);
    CREEL_ASSERT(current_->scope == &core_of(t.parent->scope),
                 "a task ended inside a scope it entered");
    if (error == nullptr && t.result == nullptr && t.locals == nullptr) [[likely]]
        end_task(t);
    else
        end_with(t, how, std::move(error));
}

// It has returned, and nothing asks what.
[[gnu::always_inline]] inline void scheduler::end_task(task_record& t) noexcept {
    t.parent->free_slot();
    t.parent->child_ended(t);
    recycle_task(t);
    ++counters_.tasks_finished;
    --tasks_alive_;
}

// What is the user's comes first, while t is a child like any other, but for its place among
// max_children, which a supervisor needs to spawn another: report()'s handler may wait, be
// cancelled, read locals and drop the handle, as others may meanwhile. From there on nothing
// switches.
void scheduler::end_with(task_record& t, ending how, std::exception_ptr error) noexcept {
    nursery_core& parent = *t.parent;
    const bool by_cancel =
        how == ending::never_ran || (how == ending::cancelled && parent.cancelled_for_children());
    const bool reported = error != nullptr && !by_cancel && parent.reports();
    if (reported) {
        parent.free_slot();
        parent.report(error, t);
        if (t.result == nullptr)
            error = nullptr; // its destructor is the user's, too
    }
    if (t.locals != nullptr) [[unlikely]]
        drop_locals(std::exchange(t.locals, nullptr));
    t.runner = nullptr;
    task_result* result = t.result;
    // What waits in get() is woken before the nursery may cancel it: it has its result.
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
        recycle_task(t);
    else
        result->forget_if_dropped(); // else the handle frees the task
    ++counters_.tasks_finished;
    --tasks_alive_;
}

// The usual case of rest(): the next one in the queue is a task, and no poll is due.
inline bool scheduler::take_next_task(fiber_record& self) noexcept {
    runnable* r = ready_.front();
    if (r == nullptr || r->kind != runnable::kind_type::task || polls_in_ <= 0 || !line_.empty() ||
        !can_run(self, static_cast<task_record&>(*r)))
        return false;
    --polls_in_;
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
}

// What a carrier does between two tasks: takes the next unstarted one in place, without a switch,
// or lets others run. Returns with self.current set, or null when it shall end.
void scheduler::rest(fiber_record& self) noexcept {
    self.current = nullptr;
    self.scope = nullptr;
    const bool surplus = idle_count_ >= kept_idle_carriers || !self.has_default_stack;
    if (const task_record* first = line_.front()) {
        if (can_run(self, *first)) {
            call_from_line();
        } else if (ending_ == 0) {
            ++ending_; // it makes room for a larger stack, whatever else is ready
            return;
        }
    }
    for (;;) {
        if (--polls_in_ < 0 && poll_is_due())
            poll_round();
        if (dispatcher_due_) {
            if (surplus)
                break; // Boost ends it, and then runs the dispatcher
            dispatcher_held_ = false;
            lie_idle(self, *dispatcher_);
            return;
        }
        runnable* r = pop_ready();
        if (r == nullptr) {
            if (surplus)
                break;
            idle_round();
            continue;
        }
        if (r->kind == runnable::kind_type::task && can_run(self, static_cast<task_record&>(*r))) {
            give(self, static_cast<task_record&>(*r));
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
            lie_idle(self, *next);
            return;
        }
    }
    ++ending_;
}

// Until bind() gives it a task, or leave() tells it to end.
void scheduler::lie_idle(fiber_record& self, fiber_record& next) noexcept {
    self.next_idle = idle_;
    idle_ = &self;
    ++idle_count_;
    switch_to(next);
}

} // namespace creel::detail
