#include <creel/fibers/local.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

namespace creel::detail {

namespace {

// The head of the caller's list of bindings.
local_binding*& bindings() noexcept {
    const scheduler* s = this_scheduler;
    return s != nullptr ? s->locals() : this_thread_parker().locals;
}

} // namespace

bound_local::bound_local(local_binding& b) noexcept : slot_(&bindings()) {
    b.outer = *slot_; // b takes over the reference that the slot held
    *slot_ = &b;
}

bound_local::~bound_local() {
    local_binding* ended = *slot_;
    *slot_ = share_locals(ended->outer);
    drop_locals(ended);
}

const local_binding* find_local(const void* key) noexcept {
    const local_binding* b = bindings();
    while (b != nullptr && b->key != key)
        b = b->outer;
    return b;
}

local_binding* share_locals(local_binding* first) noexcept {
    if (first != nullptr)
        first->references.fetch_add(1, std::memory_order_relaxed);
    return first;
}

// The thread that drops the last reference destroys. Its acquire pairs with the releases of the
// others, which may be threads that have run a child.
void drop_locals(local_binding* first) noexcept {
    while (first != nullptr && first->references.fetch_sub(1, std::memory_order_acq_rel) == 1) {
        local_binding* outer = first->outer;
        first->destroy(*first);
        first = outer;
    }
}

} // namespace creel::detail
