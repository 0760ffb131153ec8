#include <creel/fibers/started.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/waiter.hpp>

#include <stdexcept>
#include <utility>

namespace creel::detail {

namespace {
nursery_core& begun(nursery_core& target) {
    target.begin_start();
    return target;
}
} // namespace

// First the target gives the child a place, and then `own` is opened.
pending_start::pending_start(nursery_core& n, std::source_location where)
    : target(begun(n)), own({}, "start", nursery_core::unlimited, where) {
    own.is_of_start = true;
}

pending_start::~pending_start() {
    if (own.open)
        own.abandon(); // the child could not be made
    target.end_start(taken_over);
}

void pending_start::wait() {
    own.join();
    if (is_set)
        return;
    check_cancel_only(); // the child never started, or ended quietly, because of that cancel
    throw std::logic_error("start: the child has ended without a call of set()");
}

void started_state::require_unset() const {
    CREEL_ASSERT(!was_set, "set() of a started<T> was called twice");
    CREEL_ASSERT(start == nullptr || scheduler::current() == start->target.opener->home,
                 "set() of a started<T> is called on its nursery's thread");
}

// If the caller is cancelled, the child stays under it: a `cancelled` may be on its way through the
// child, and must find the scope that absorbs it. (Trio's rule, and its reason.)
void started_state::set() noexcept {
    was_set = true;
    if (start == nullptr)
        return;
    pending_start& s = *std::exchange(start, nullptr);
    s.is_set = true;
    if (s.own.cancelled_for_children())
        return;
    s.taken_over = true;
    s.target.take_over(*s.own.first_child);
}

} // namespace creel::detail
