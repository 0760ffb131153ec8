#include <creel/fibers/blocking.hpp>

#include <creel/fibers/detail/blocking/running_call.hpp>
#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

namespace creel {

void check_cancelled() {
    check_cancel_only();
    if (!detail::runs_blocking_call() || !on_scheduler())
        return;
    // f has started a run of its own. The scopes of that run do not lie in the scope of the call.
    detail::parker& me = detail::this_thread_parker();
    detail::glance(me);
    if (const detail::scope_core* s = detail::visible_cancel(me))
        throw cancelled{s->own.reason};
}

} // namespace creel
