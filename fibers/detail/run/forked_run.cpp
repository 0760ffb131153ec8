#include <creel/fibers/detail/run/forked_run.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/run/parker.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/local.hpp>

#include <memory>
#include <source_location>

#include <pthread.h>

namespace creel::detail {

constinit thread_local bool run_is_in_parent = false;

void refuse_in_forked_run(const char* call) noexcept {
    if (run_is_in_parent) [[unlikely]]
        assertion_failed(call, "it would wait, wake or spawn", std::source_location::current());
}

namespace {

// The outside world of a scheduler in a child, where the run belongs to the parent.
class parents_world final : public poller {
public:
    time_point now() noexcept override { refuse(); }
    void poll() noexcept override { refuse(); }
    void wait_until(time_point) noexcept override { refuse(); }
    void wake() noexcept override { refuse(); }

private:
    [[noreturn]] static void refuse() noexcept {
        assertion_failed("fork()", "a fiber of the run would go on",
                         std::source_location::current());
    }
};

parents_world out_of_reach;

} // namespace

// In the child, on its only thread. If it was forked inside a run, each call that would wake
// a fiber of any run, or wait in this one, comes to the poller, which refuses it. A child that was
// forked outside is a process in its own right: there the wake of a fiber's copy does nothing, as
// the notification of a thread that was not copied does nothing.
void scheduler::leave_to_parent() noexcept {
    scheduler* const forked = this_scheduler;
    for (scheduler* s = all_; s != nullptr; s = s->next_made_)
        s->incoming_.leave_to_parent(forked != nullptr ? &out_of_reach : nullptr);
    if (forked == nullptr)
        return;
    thread_parker& me = this_thread_parker();
    if (&forked->locals() != &me.locals)
        me.locals = share_locals(forked->locals());
    forked->outside_ = &out_of_reach;
    std::construct_at(&forked->ready_);
    this_scheduler = nullptr;
    run_is_in_parent = true;
}

namespace {
// Fails only without memory, as the program starts.
[[maybe_unused]] const int leaves_runs_to_parent =
    ::pthread_atfork(nullptr, nullptr, &scheduler::leave_to_parent);
} // namespace

} // namespace creel::detail
