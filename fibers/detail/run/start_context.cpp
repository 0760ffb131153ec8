// Where the contexts of carriers begin and end. This source is never instrumented, also if all
// others are. Boost makes a context by jumping to it and back, and ends it by jumping out of its
// dead stack. Sanitizers lose track in a function that is entered on one stack and left on another.
#define CREEL_NEVER_INSTRUMENTED
#include <creel/fibers/detail/run/boost_exceptions.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

#include <boost/context/preallocated.hpp>
#include <boost/context/stack_context.hpp>
#include <boost/fiber/policy.hpp>

namespace creel::detail {

// Boost's stack allocator for one carrier. It hands out a stack of the pool, without the record at
// its top, and takes it back on the dispatcher's stack when the context has ended.
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
        owner->context_ended(memory, sanitizer_state);
    }
};

void scheduler::make_context(fiber_record& f,
                             void (scheduler::*body)(fiber_record& self) noexcept) {
    auto context = boost::fibers::make_worker_context_with_properties(
        boost::fibers::launch::post, &f, carrier_stack{this, f.stack, f.sanitizer_state},
        [this, &f, body] {
            if constexpr (boost_keeps_exceptions)
                *exceptions_ = {}; // drops those of the context that switched to this one
            (this->*body)(f);
        });
    f.context = context.get();
    boost::fibers::context::active()->attach(f.context);
    // The context keeps a reference to itself until it has ended.
}

} // namespace creel::detail
