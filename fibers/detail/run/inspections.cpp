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

// One slice of the oldest. The loop comes back for the next one.
void scheduler::inspect() noexcept {
    inspection& oldest = *inspections_;
    inspection* const next = oldest.next_;
    if (oldest.work())
        inspections_ = next;
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
}

} // namespace creel::detail
