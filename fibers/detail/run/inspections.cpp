// The run's side of a dump: it works off the inspections that other threads have posted.
#include <creel/fibers/detail/inspect/inspection.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

namespace creel::detail {

void scheduler::add_inspection(inspection& i) noexcept {
    inspection** last = &inspections_;
    while (*last != nullptr)
        last = &(*last)->next_;
    *last = &i;
    call_dispatcher(); // its stack is where the work is done
}

// One slice of the oldest. The next slice comes at a later poll (take_in), when all that is ready
// has had its turn, or at once if nothing is ready (idle_round, suspend_until).
void scheduler::inspect() noexcept {
    inspection& oldest = *inspections_;
    inspection* const next = oldest.next_;
    if (oldest.work())
        inspections_ = next;
    slice_is_done_ = true;
    for (inspection* i = next; i != nullptr; i = i->next_)
        i->tell_progress(); // their turn has not come, but the run is not stalled
}

void scheduler::carrier_leaves(const fiber_record& f) noexcept {
    for (inspection* i = inspections_; i != nullptr; i = i->next_)
        i->leaves(f);
}

void scheduler::end_inspections() noexcept {
    while (inspection* const i = inspections_) {
        inspections_ = i->next_;
        i->finish(inspection::ended);
    }
    slice_is_done_ = false; // for the next run
}

} // namespace creel::detail
