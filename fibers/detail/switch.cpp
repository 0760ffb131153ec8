// Every switch of context, and where carriers begin and end. Built without sanitizer
// instrumentation: a function entered on one stack and left on another would unbalance TSan's
// shadow stacks, and Boost ends a context by jumping into its dead stack.
#include <creel/fibers/detail/scheduler.hpp>

#include <boost/context/preallocated.hpp>
#include <boost/context/stack_context.hpp>
#include <boost/fiber/policy.hpp>

#include <new>
#include <utility>

#if defined(CREEL_SANITIZE_ADDRESS)
#include <sanitizer/common_interface_defs.h>
#elif defined(CREEL_SANITIZE_THREAD)
#include <sanitizer/tsan_interface.h>
#endif

namespace creel::detail {

// The bookkeeping of a switch, whoever makes it: current_, the C++ exception state (which Boost
// 1.81 does not keep per context) and the sanitizers' idea of the stack. The caller then resumes
// next.context; nothing but that may come in between.
//
// ASan's start and finish are called together, before the jump, because Boost's own switches have
// no place to call finish on arrival.
void scheduler::arrive(fiber_record& next) noexcept {
    fiber_record& from = *current_;
    from.exceptions = *exceptions_;
    *exceptions_ = next.exceptions;
    current_ = &next;
    renew_budget(next);
    ++counters_.switches;
#if defined(CREEL_SANITIZE_ADDRESS)
    __sanitizer_start_switch_fiber(&from.sanitizer_state, next.stack_bottom, next.stack_bytes);
    __sanitizer_finish_switch_fiber(next.sanitizer_state, nullptr, nullptr);
#elif defined(CREEL_SANITIZE_THREAD)
    void* stale = nullptr;
    if (next.what == fiber_record::fiber_kind::dispatcher || next.sanitizer_state == nullptr) {
        // Natives that end leave the dispatcher's shadow stack unbalanced: give it a new one.
        stale = next.sanitizer_state;
        next.sanitizer_state = __tsan_create_fiber(0);
    }
    __tsan_switch_to_fiber(next.sanitizer_state, 0);
    if (stale != nullptr)
        __tsan_destroy_fiber(stale);
#endif
}

void scheduler::switch_to(fiber_record& next) noexcept {
    arrive(next);
    next.context->resume();
}

boost::fibers::context* scheduler::pick_next() noexcept {
    if (leaving_) {
        if (dispatcher_held_) {
            dispatcher_held_ = false;
            return dispatcher_->context;
        }
        runnable* r = ready_.pop();
        return r != nullptr ? static_cast<fiber_record*>(r)->context : nullptr;
    }
    fiber_record* next = pick_next_record();
    if (next == nullptr)
        return nullptr;
    arrive(*next);
    return next->context;
}

// Boost made this context ready. On launch::dispatch it has switched without asking pick_next: we
// are then on the stack of a child that current_ does not know of yet.
void scheduler::awakened(boost::fibers::context* c) noexcept {
    fiber_record& active = record_of(boost::fibers::context::active());
    if (&active != current_)
        arrive(active);
    fiber_record& f = record_of(c);
    if (f.what == fiber_record::fiber_kind::dispatcher)
        dispatcher_held_ = true;
    else
        make_ready(f);
}

void scheduler::adopt_sanitizer_state(fiber_record& main) noexcept {
#if defined(CREEL_SANITIZE_THREAD)
    main.sanitizer_state = __tsan_get_current_fiber();
#else
    static_cast<void>(main);
#endif
}

void scheduler::drop_sanitizer_state(fiber_record& f) noexcept {
#if defined(CREEL_SANITIZE_THREAD)
    if (f.sanitizer_state != nullptr)
        __tsan_destroy_fiber(f.sanitizer_state);
#endif
    f.sanitizer_state = nullptr;
}

// Boost's stack allocator for one carrier: hands out what was taken from the pool, below the
// record, and takes it back on the dispatcher's stack when the context has ended.
struct carrier_stack {
    scheduler* owner;
    stack_memory memory;
    void* sanitizer_state;

    boost::context::stack_context allocate() const noexcept {
        boost::context::stack_context c;
        c.sp = memory.top - carrier_record_bytes;
        c.size = memory.bytes - carrier_record_bytes;
        return c;
    }
    void deallocate(boost::context::stack_context&) const noexcept {
#if defined(CREEL_SANITIZE_THREAD)
        __tsan_destroy_fiber(sanitizer_state);
#endif
        owner->carrier_ended(memory);
    }
};

fiber_record& scheduler::start_context(stack_memory memory,
                                       void (scheduler::*body)(fiber_record& self) noexcept) {
    auto* f =
        ::new (memory.top - carrier_record_bytes) fiber_record(fiber_record::fiber_kind::carrier);
    f->home = this;
    f->stack = memory;
    f->stack_bottom = memory.top - memory.bytes;
    f->stack_bytes = memory.bytes;
#if defined(CREEL_SANITIZE_THREAD)
    f->sanitizer_state = __tsan_create_fiber(0);
#endif
    auto context = boost::fibers::make_worker_context_with_properties(
        boost::fibers::launch::post, f, carrier_stack{this, memory, f->sanitizer_state},
        [this, f, body] { (this->*body)(*f); });
    f->context = context.get();
    boost::fibers::context::active()->attach(f->context);
    return *f; // the context keeps a reference to itself until it has ended
}

} // namespace creel::detail
