#include <creel/fibers/stall_watch.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/inspect/live_runs.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

namespace creel {

namespace {

detail::scheduler& run_of_thread() {
    CREEL_ASSERT(detail::scheduler::current() != nullptr,
                 "stall_watch outside a run: make it inside run_scheduler, on the run's thread");
    return *detail::scheduler::current();
}

} // namespace

stall_watch::stall_watch(const stall_watch_options& options)
    : options_(options),
      thread_(options.interrupts),
      run_(run_of_thread()),
      before_(run_.live.watched()) { // only this thread writes it
    CREEL_ASSERT(options.threshold > duration{},
                 "stall_watch: the threshold must be longer than 0");
    detail::watch_run(run_, &options_);
    thread_.look_for_stalls();
}

stall_watch::~stall_watch() {
    CREEL_ASSERT(run_.live.watched() == &options_,
                 "stall_watch: another one that was made later on this run is still there; end "
                 "them in the reverse order");
    detail::watch_run(run_, before_);
}

} // namespace creel
