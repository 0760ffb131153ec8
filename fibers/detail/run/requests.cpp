// The run's side of what other threads ask of it: it works off the requests that they have posted.
#include <creel/fibers/detail/inspect/run_request.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

namespace creel::detail {

void scheduler::add_request(run_request& r) noexcept {
    run_request** last = &requests_;
    while (*last != nullptr)
        last = &(*last)->next_;
    *last = &r;
    call_dispatcher(); // its stack is where the work is done
}

// One slice of the oldest. The next slice comes at a later poll (take_in), when all that is ready
// has had its turn, or at once if nothing is ready (idle_round, suspend_until).
void scheduler::work_on_request() noexcept {
    run_request& oldest = *requests_;
    run_request* const next = oldest.next_;
    if (oldest.go_on())
        requests_ = next;
    slice_is_done_ = true;
    for (run_request* r = next; r != nullptr; r = r->next_)
        r->tell_progress(); // their turn has not come, but the run is not stalled
}

void scheduler::carrier_leaves(const fiber_record& f) noexcept {
    for (run_request* r = requests_; r != nullptr; r = r->next_)
        r->carriers.leaves(f);
}

void scheduler::end_requests() noexcept {
    while (run_request* const r = requests_) {
        requests_ = r->next_;
        r->finish(run_request::ended);
    }
    slice_is_done_ = false; // for the next run
}

} // namespace creel::detail
