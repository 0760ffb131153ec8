// Every switch of context. A function that is entered on one context and left on another is not
// instrumented, because it would unbalance TSan's shadow stacks. In a library that the compiler
// instruments for a sanitizer, the sanitizer is told of each switch.
#include <creel/fibers/detail/run/scheduler.hpp>

#include <creel/fibers/detail/run/boost_exceptions.hpp>
#include <creel/fibers/detail/system/instrumented.hpp>
#include <creel/fibers/detail/system/valgrind.hpp>

#include <cstdint>
#include <new>

#if CREEL_UNDER_ASAN
#include <sanitizer/common_interface_defs.h>
#elif CREEL_UNDER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace creel::detail {

// The bookkeeping of each switch, whether Boost makes it or we do: current_, the C++ exception
// state and the sanitizers' idea of the stack. The caller then resumes next.context, and does
// nothing else in between.
//
// ASan's start and finish are called together, before the jump, because Boost's own switches have
// no place to call finish on arrival.
CREEL_NOT_INSTRUMENTED void scheduler::arrive(fiber_record& next) noexcept {
    fiber_record& from = *current_;
    from.exceptions = *exceptions_; // also for uncaught_exceptions_of()
    if constexpr (!boost_keeps_exceptions)
        *exceptions_ = next.exceptions;
    current_ = &next;
    renew_budget(next);
    ++counters_.switches;
#if CREEL_UNDER_ASAN
    __sanitizer_start_switch_fiber(&from.sanitizer_state, next.stack_bottom, next.stack_bytes);
    __sanitizer_finish_switch_fiber(next.sanitizer_state, nullptr, nullptr);
#elif CREEL_UNDER_TSAN
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

// If Boost keeps the exceptions, a context that starts has those of the context that starts it. A
// carrier drops them itself, as it begins. A native cannot, so a context that handles no exception
// starts it: this function, or in pick_next() the dispatcher.
CREEL_NOT_INSTRUMENTED void scheduler::switch_to(fiber_record& next) noexcept {
    arrive(next);
    if constexpr (boost_keeps_exceptions) {
        if (next.what == fiber_record::fiber_kind::native) {
            const exception_state mine = *exceptions_;
            *exceptions_ = {};
            next.context->resume();
            *exceptions_ = mine;
            return;
        }
    }
    next.context->resume();
}

CREEL_NOT_INSTRUMENTED boost::fibers::context* scheduler::pick_next() noexcept {
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
    if constexpr (boost_keeps_exceptions) {
        const bool is_dispatcher = current_->what == fiber_record::fiber_kind::dispatcher;
        if (is_dispatcher) {
            *exceptions_ = {}; // drops those of the context that first switched to it
        } else if (next->what == fiber_record::fiber_kind::native &&
                   *exceptions_ != exception_state{}) {
            ready_.push_front(*next);
            dispatcher_held_ = false;
            next = &*dispatcher_;
        }
    }
    if (recorder_) [[unlikely]] {
        recorder_->stops(*current_);
        recorder_->runs(*next);
    }
    arrive(*next);
    return next->context;
}

// Boost has made this context ready. On launch::dispatch it has switched without asking pick_next.
// Then this runs on the stack of a child that is not current_ yet.
CREEL_NOT_INSTRUMENTED void scheduler::awakened(boost::fibers::context* c) noexcept {
    fiber_record& active = record_of(boost::fibers::context::active());
    if (&active != current_) {
        if (recorder_) [[unlikely]] {
            recorder_->stops(*current_);
            recorder_->runs(active);
        }
        arrive(active);
        if constexpr (boost_keeps_exceptions)
            *exceptions_ = {};
    }
    fiber_record& f = record_of(c);
    if (f.what == fiber_record::fiber_kind::dispatcher)
        dispatcher_held_ = true;
    else
        make_ready(f);
}

void adopt_sanitizer_state(fiber_record& main) noexcept {
#if CREEL_UNDER_TSAN
    main.sanitizer_state = __tsan_get_current_fiber();
#else
    static_cast<void>(main);
#endif
}

void drop_sanitizer_state(fiber_record& f) noexcept {
    drop_sanitizer_state(f.sanitizer_state);
    f.sanitizer_state = nullptr;
}

void drop_sanitizer_state([[maybe_unused]] void* state) noexcept {
#if CREEL_UNDER_TSAN
    if (state != nullptr)
        __tsan_destroy_fiber(state);
#elif !CREEL_UNDER_ASAN
    if (state != nullptr)
        valgrind_drop_stack(static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(state) - 1));
#endif
}

fiber_record& scheduler::start_context(stack_memory memory,
                                       void (scheduler::*body)(fiber_record& self) noexcept) {
    auto* f =
        ::new (memory.top - carrier_record_bytes) fiber_record(fiber_record::fiber_kind::carrier);
    f->home = this;
    f->stack = memory;
    f->stack_bottom = memory.top - memory.bytes;
    f->stack_bytes = memory.bytes;
#if CREEL_UNDER_TSAN
    f->sanitizer_state = __tsan_create_fiber(0);
#endif
    make_context(*f, body);
    return *f;
}

// On the dispatcher's stack, when the context has ended.
void scheduler::context_ended(stack_memory memory, void* sanitizer_state) noexcept {
    drop_sanitizer_state(sanitizer_state);
    carrier_ended(memory);
}

} // namespace creel::detail
