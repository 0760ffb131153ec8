// One run of a scheduler: how it enters a thread, and how it leaves it to Boost's stock algorithm.
#include <creel/fibers/detail/run/scheduler.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/detail/cancel/audit.hpp>
#include <creel/fibers/detail/inspect/debugger_table.hpp>
#include <creel/fibers/detail/inspect/live_runs.hpp>
#include <creel/fibers/detail/run/boost_copies.hpp>
#include <creel/fibers/detail/system/thread_end.hpp>
#include <creel/fibers/detail/unwind/saved_registers.hpp>
#include <creel/fibers/fork_guard.hpp>

#include <boost/fiber/algo/round_robin.hpp>
#include <boost/fiber/scheduler.hpp>

#include <algorithm>
#include <memory>
#include <mutex>
#include <utility>

#include <cxxabi.h>
#include <pthread.h>

namespace creel::detail {

namespace {

using boost::fibers::context;

std::mutex pool_mutex;
const fork_guard pool_in_forks{pool_mutex};
scheduler* free_schedulers = nullptr; // guarded by pool_mutex; never freed, see the header

// The main context's stack is the thread's.
void find_thread_stack(fiber_record& f) {
    pthread_attr_t attributes;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0)
        return;
    void* bottom = nullptr;
    std::size_t bytes = 0;
    pthread_attr_getstack(&attributes, &bottom, &bytes);
    pthread_attr_destroy(&attributes);
    f.stack_bottom = static_cast<std::byte*>(bottom);
    f.stack_bytes = bytes;
}

// The algorithm that a thread's natives are left to between runs. It is one object for all gaps: a
// thread that wakes a native calls notify() after it has released Boost's lock, and by then the
// next run may have begun.
thread_local boost::fibers::algo::algorithm::ptr_t between_runs;

} // namespace

constinit thread_local scheduler* this_scheduler = nullptr;
constinit scheduler* scheduler::all_ = nullptr;

scheduler& scheduler::acquire() {
    const std::lock_guard lock{pool_mutex};
    if (scheduler* s = free_schedulers) {
        free_schedulers = s->next_free_;
        return *s;
    }
    keep_debugger_table();
    static_cast<void>(learn_saved_registers()); // also for a debugger, which cannot ask for it
    auto* s = new scheduler;
    s->next_made_ = std::exchange(all_, s);
    intrusive_ptr_add_ref(s); // so that Boost never deletes it
    return *s;
}

void scheduler::release(scheduler& s) noexcept {
    const std::lock_guard lock{pool_mutex};
    s.next_free_ = free_schedulers;
    free_schedulers = &s;
}

std::string scheduler::run(poller& outside, const scheduler_options& options,
                           const std::function<void()>& body) {
    CREEL_ASSERT(this_scheduler == nullptr,
                 "io::run inside io::run: one run at a time on a thread; spawn into a nursery, or "
                 "use another thread");
#if defined(_GLIBCXX_DEBUG)
    // Then the objects that Boost's library makes have their members elsewhere, and no such type.
    CREEL_ASSERT(
        context::active()->is_context(boost::fibers::type::main_context) ||
            context::active()->is_context(boost::fibers::type::worker_context),
        "creel is built with _GLIBCXX_DEBUG and the Boost.Fiber it uses is not: build both "
        "with it, or use _GLIBCXX_ASSERTIONS (docs/building.md)");
#endif
    CREEL_ASSERT(context::active()->is_context(boost::fibers::type::main_context),
                 "io::run must be called from the thread's own stack, not from a Boost fiber");
    report_other_boost_fiber();
    scheduler& s = acquire();
    watch_end_of_thread(); // after Boost's part of it was made
    try {
        s.enter(outside, options);
    } catch (...) { // no memory: ends all that has begun
        s.leave_unentered();
        release(s);
        throw;
    }
    body();
    s.leave();
    std::string deadlock = std::move(s.deadlock_);
    release(s);
    return deadlock;
}

void scheduler::enter(poller& outside, const scheduler_options& options) {
    if (between_runs == nullptr) // here, where it may throw, for leave()
        between_runs.reset(new boost::fibers::algo::round_robin);
    run_counters::prepare(*this);
    outside_ = &outside;
    options_ = options;
    options_.debug = options.debug || debug_is_in_environment();
    if (options_.debug)
        look_for_call_once();
    counters_ = {};
    tasks_alive_ = 0;
    spinning_.limit(options.idle_spin);
    leaving_ = false;
    told_of_no_memory_ = false;
    dispatcher_held_ = false;
    pass_polled_ = false;
    boost_deadline_ = time_point::max();
    exceptions_ = reinterpret_cast<exception_state*>(abi::__cxa_get_globals());
    stacks_.emplace();
    reserve_stack_ = stacks_->allocate(options.stack_bytes);
    tasks_.begin_run(options.stack_bytes);
    uncaught_watch_.emplace();
    if (options.report_overflow)
        overflow_watch_.emplace();
    if (options.measure_stacks || options_.debug) // run_task() relies on the second
        meter_.emplace();
    traced_peak_ = 0;
    if (!options.trace.empty()) {
        recorder_ = std::make_unique<trace_recorder>(options.trace, options.trace_bytes, outside,
                                                     options.began_at);
        outside_ = &recorder_->noting();
    }
    main_.emplace(fiber_record::fiber_kind::main);
    main_->context = context::active();
    main_->home = this;
    thread_ = pthread_self();
    thread_locals_ = &this_thread_parker().locals;
    find_thread_stack(*main_);
    adopt_sanitizer_state(*main_);
    main_->id = tasks_.take_number();
    last_poll_ = outside.now();
    pace_.begin_run(last_poll_);
    begin_searches();
    renew_budget(*main_);
    carriers_.begin_run();
    begin_period();
    dispatcher_.emplace(fiber_record::fiber_kind::dispatcher);
    dispatcher_->home = this;
    dispatcher_->id = tasks_.take_number();
    current_ = &*main_;
    incoming_.kicks(&outside);
    this_scheduler = this;
    // Boost hands over all that is ready: always the dispatcher, and natives if there are any.
    main_->context->get_scheduler()->set_algo(boost::fibers::algo::algorithm::ptr_t{this});
    call_dispatcher(); // natives that slept while no run was on must be looked at once
    if (recorder_) {
        pace_.hold_back();
        recorder_->runs(*main_);
    }
    live.tell(last_poll_, 0, 0, 0);
    list_run(*this);
}

// All tasks have ended, except for those of Boost fibers inside a creel call, which are awaited.
// Idle carriers get a null task and return. Each ends in Boost's dispatcher, which gives its stack
// back. No carrier may be left to the thread's exit: Boost would wait there for ever.
void scheduler::drain() noexcept {
    while (carriers_.alive() != 0 || reserve_is_there_ || natives_.are_inside()) {
        carriers_.end_idle(carriers_.idle(), ready_);
        if (!anything_ready() && !dispatcher_due_)
            idle_round(); // natives in creel calls: wait with them
        yield();
    }
}

// The stock algorithm takes over the natives that are left.
void scheduler::leave() noexcept {
    drain();
    if (options_.debug)
        meter_->name_nearly_full();
    unlist_run(*this); // so no thread posts a request any more
    incoming_.deliver_all();
    end_requests();
    if (recorder_) {
        recorder_->ends(*main_);
        recorder_->write();
    }
    pace_.remove_marker(ready_); // what is left in the queue, Boost's natives, goes to Boost
    leaving_ = true;
    main_->context->get_scheduler()->set_algo(between_runs);
    this_scheduler = nullptr;
    incoming_.kicks(nullptr);
    CREEL_ASSERT(timers_.empty(), "a timer outlived its scheduler's run");
    natives_.forget_all();
    drop_sanitizer_state(*dispatcher_);
    // From here on a task<R> that is left frees its node itself: see free_kept_task().
    run_number_.fetch_add(1, std::memory_order_relaxed);
    tasks_.leave_kept_behind();
    dispatcher_.reset();
    leave_unentered();
    timers_.trim();
}

// Ends all that enter() begins before it takes the thread over.
void scheduler::leave_unentered() noexcept {
    overflow_watch_.reset();
    uncaught_watch_.reset();
    meter_.reset();
    outside_ = nullptr; // it may be the recorder's
    recorder_.reset();
    main_.reset();
    if (reserve_stack_.top != nullptr)
        stacks_->release(std::exchange(reserve_stack_, {}));
    stacks_.reset();
    tasks_.end_run();
    current_ = nullptr;
}

// In a traced run each spawn comes here, because the peak that it is compared with stays 0.
void scheduler::note_peak(const task_record& spawned) noexcept {
    if (!recorder_) {
        counters_.peak_tasks = tasks_alive_;
        return;
    }
    traced_peak_ = std::max(traced_peak_, tasks_alive_);
    recorder_->spawns(spawned);
}

scheduler_statistics scheduler::statistics() const noexcept {
    scheduler_statistics s = counters_;
    s.peak_tasks = std::max(s.peak_tasks, traced_peak_);
    s.tasks_spawned = s.tasks_finished + tasks_alive_;
    s.fibers_alive = carriers_.alive();
    s.fibers_idle = carriers_.idle();
    s.timers_armed = timers_.size();
    return s;
}

} // namespace creel::detail
