// The scheduler of one thread: a Boost.Fiber algorithm. Our own loop switches its contexts.
//
// Boost's way to wait goes through its scheduler and its dispatcher context (39 ns a yield). Ours
// pops the next context and resumes it directly (8 ns). Both ways must agree on three things, which
// each switch keeps, whether Boost makes it or we do (arrive() in switch.cpp):
//   current_        the record of the context that runs
//   exception state and sanitizer state of that context
//   the dispatcher  is always either running or held here (dispatcher_held_)
//
// The loop has no function of its own: a fiber that waits goes through it on its own stack. The
// states of the thread, and the function that makes each transition:
//
//   fiber runs --- 1 suspend_current(), yield_or_poll() -> next fiber runs    one is ready
//   fiber runs --- 2 loop_until_switch() ----------------> looking            all other cases
//   looking ------ 3 poll_is_due(), poll_round() --------> looking            polls, takes in
//   looking ------ 4 next_fiber(), bind() ---------------> next fiber runs    a task gets a carrier
//   looking ------ 5 switch_to(dispatcher) --------------> dispatcher runs    dispatcher_due_
//   looking ------ 6 idle_round() -----------------------> spinning, sleeping nothing is ready
//   spinning, sleeping -- 7 take_in() -------------------> looking
//   looking ------ 8 it pops the fiber itself -----------> fiber runs         without a switch
//   dispatcher runs -- 9 suspend_until() ----------------> looking            on its own stack
//
// A carrier whose task has ended looks in the same way in rest(), until it has another task. A
// native that waits by Boost's own means goes through pick_next_record().
//
// The rooms: inbox (wakes of other threads), polling_pace (when to poll), carrier_pool and
// task_store (fibers and records for tasks), natives (Boost's fibers).
//
// The object is immortal: pooled and reused, never freed. Boost calls notify() after it has
// released its lock, and a waker touches the inbox after its deciding store; by then the woken
// thread may have left its run.
#pragma once

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/inspect/live_run.hpp>
#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/report/uncaught.hpp>
#include <creel/fibers/detail/run/fiber_record.hpp>
#include <creel/fibers/detail/run/inbox.hpp>
#include <creel/fibers/detail/run/natives.hpp>
#include <creel/fibers/detail/run/polling_pace.hpp>
#include <creel/fibers/detail/run/ready_queue.hpp>
#include <creel/fibers/detail/run/spin_policy.hpp>
#include <creel/fibers/detail/stack/overflow_watch.hpp>
#include <creel/fibers/detail/stack/stack_meter.hpp>
#include <creel/fibers/detail/task/carrier_pool.hpp>
#include <creel/fibers/detail/task/task_line.hpp>
#include <creel/fibers/detail/task/task_store.hpp>
#include <creel/fibers/detail/time/timer_queue.hpp>
#include <creel/fibers/detail/trace/recorder.hpp>
#include <creel/fibers/poller.hpp>
#include <creel/fibers/scheduler.hpp>

#include <boost/fiber/algo/algorithm.hpp>

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <vector>

#include <pthread.h>

namespace creel::detail {

class run_request;
struct deadlock_report;

// Threads: its own, except for incoming(), run_number(), live and progress().
class scheduler final : public boost::fibers::algo::algorithm {
public:
    static scheduler* current() noexcept { return this_scheduler; }

    // Runs body on the calling context, then all that body left behind; see run_scheduler.
    // Returns what fibers were in a deadlock; empty: none.
    static std::string run(poller& outside, const scheduler_options& options,
                           const std::function<void()>& body);

    static void leave_to_parent() noexcept; // for pthread_atfork: in the child, see forked_run.cpp

    // Waiting.
    void suspend_current(); // runs others until the current fiber is popped again
    void yield();
    void yield_or_poll(); // the user's yield
    void keep_time();     // the user's checkpoint: yields if there was no poll for some ms
    void spend_budget() { // one cancellation point; yields at zero
        if (--current_->budget <= 0) [[unlikely]]
            yield_spent();
    }
    // False at zero, and then its caller must yield.
    [[nodiscard]] bool spend_budget_in_place() noexcept { return --current_->budget > 0; }
    void wake_arrived(waiter& w) noexcept;
    void interrupt(waiter& w, wake_reason why) noexcept;
    [[nodiscard]] static const parker& owner_of(const waiter& w) noexcept { return *w.owner_; }
    [[nodiscard]] static bool has_timer(const waiter& w) noexcept { return w.has_timer_; }

    // Tasks.
    [[nodiscard]] task_store& tasks() noexcept { return tasks_; }
    void submit(task_record& t) noexcept {
        ready_.push(t);
        if (++tasks_alive_ > counters_.peak_tasks) [[unlikely]]
            note_peak(t);
    }
    void keep_task(task_record& t, task_result& r) noexcept; // also until its handle is destroyed
    void free_kept_task(task_record& t, std::uint64_t run) noexcept;
    void drop_from_line(task_record& t) noexcept; // its nursery is cancelled: it never runs
    void has_background_task() noexcept { has_background_ = true; }

    // Natives.
    // `who` has entered or left its outermost scope. Only that of main concerns the natives.
    void outermost_changed(const parker& who) noexcept {
        if (&who == &*main_)
            natives_.hang_under(who.outermost);
    }
    // What the outermost scope of `who` sees has changed. Here, too, only main concerns the
    // natives.
    void look_at_natives(const parker& who, spread_work& work) noexcept {
        if (&who == &*main_)
            natives_.look_outwards(work);
    }
    template <typename Visit>
    void for_each_native(Visit visit) const { // visit(const fiber_record&)
        natives_.for_each(visit);
    }
    // Waits until the carriers have ended and no native is inside a creel call. For the main fiber.
    void drain() noexcept;

    // Timers.
    void arm(timer& t, time_point deadline, duration span) { timers_.arm(t, deadline, span); }
    void rearm(timer& t, time_point deadline) { timers_.rearm(t, deadline); }
    void cancel(timer& t) noexcept { timers_.cancel(t); }

    // From other threads.
    [[nodiscard]] inbox& incoming() noexcept { return incoming_; }

    [[nodiscard]] fiber_record& running() noexcept { return *current_; }
    [[nodiscard]] time_point now() noexcept { return outside_->now(); }
    [[nodiscard]] const statistics_source* more_statistics() const noexcept {
        return options_.statistics;
    }
    [[nodiscard]] time_point last_poll() const noexcept { return last_poll_; }
    // Of this thread, or of one of its fibers: live for the fiber that runs, saved at the switch
    // for the others. (For the fiber that runs std::uncaught_exceptions() gives the same, for 16
    // instructions more.)
    [[nodiscard]] static int uncaught_exceptions_of(const parker& p) noexcept {
        if (p.home == nullptr)
            return std::uncaught_exceptions();
        const auto& seen = &p == p.home->current_ ? *p.home->exceptions_
                                                  : static_cast<const fiber_record&>(p).exceptions;
        return static_cast<int>(seen.uncaught_exceptions);
    }
    [[nodiscard]] scheduler_statistics statistics() const noexcept;
    [[nodiscard]] fiber_record& main() noexcept { return *main_; }
    [[nodiscard]] std::size_t max_fibers() const noexcept { return options_.max_fibers; }
    [[nodiscard]] const std::source_location& began_at() const noexcept {
        return options_.began_at;
    }
    // Differs for each run of this object.
    [[nodiscard]] std::uint64_t run_number() const noexcept {
        return run_number_.load(std::memory_order_relaxed);
    }
    void count_reported_error() noexcept { ++counters_.errors_reported; }
    void count_swallowed_cancel() noexcept { ++counters_.cancels_swallowed; }
    void count_cancel(duration from_request_to_exit) noexcept {
        counters_.cancel_latency.add(from_request_to_exit);
    }

    // audit.cpp: the audit of waits inside std::call_once. Threads: own.
    void look_for_call_once() noexcept; // as the run begins, perhaps inside a call_once
    void name_wait_in_call_once() noexcept;
    void audit_park(const waiter& w) noexcept; // deadlocks.cpp
    [[nodiscard]] bool debug() const noexcept { return options_.debug; }
    [[nodiscard]] const stack_meter* meter() const noexcept { return meter_ ? &*meter_ : nullptr; }

    // The local<T>s that a child spawned here and now sees; null for the fallbacks. They belong to
    // the task, so that a carrier need not be told of them.
    [[nodiscard]] local_binding*& locals() const noexcept {
        if (current_->current != nullptr)
            return current_->current->locals;
        return current_->what == fiber_record::fiber_kind::native ? current_->locals
                                                                  : *thread_locals_;
    }

    // True if an access to this address is the overflow of a fiber, which `found` then names. For a
    // handler of SIGSEGV on the scheduler's own thread: it only reads.
    [[nodiscard]] bool explain_fault(const std::byte* address, const std::byte* stack_pointer,
                                     stack_overflow& found) const noexcept;

    // What records the run; null if it is not traced. Threads: own.
    [[nodiscard]] trace_recorder* recorder() const noexcept { return recorder_.get(); }

    // Requests of other threads: see inspect/run_request.hpp. Threads: own.
    void add_request(run_request& r) noexcept;
    [[nodiscard]] const runnable* first_ready() const noexcept { return ready_.front(); }
    [[nodiscard]] const task_record* first_in_line() const noexcept { return line_.front(); }
    [[nodiscard]] const fiber_record* first_carrier() const noexcept { return carriers_.newest(); }

    live_run live; // what other threads may read of the run
    // For a thread that samples it: see inspect/running_fiber.hpp. Threads: any.
    [[nodiscard]] run_progress progress() const noexcept;

    // boost::fibers::algo::algorithm, called by Boost only.
    void awakened(boost::fibers::context* c) noexcept override;
    boost::fibers::context* pick_next() noexcept override;
    [[nodiscard]] bool has_ready_fibers() const noexcept override;
    void suspend_until(const std::chrono::steady_clock::time_point& deadline) noexcept override;
    void notify() noexcept override { incoming_.ring_bell(); }

private:
    friend struct carrier_stack; // Boost's stack allocator for carriers, in start_context.cpp

    scheduler() = default;
    ~scheduler() override = default;

    // scheduler.cpp
    static scheduler& acquire();
    static void release(scheduler& s) noexcept;
    void enter(poller& outside, const scheduler_options& options);
    void leave() noexcept;
    void leave_unentered() noexcept;
    void note_peak(const task_record& spawned) noexcept;

    // loop.cpp
    void loop_until_switch(); // polls, starts tasks and sleeps until another context can go on
    template <bool traced>
    void loop_as();
    void yield_spent();
    void yield_alone();
    void call_dispatcher() noexcept { // before the next fiber
        dispatcher_due_ = true;
        pace_.look_at_next_switch();
    }
    fiber_record* next_fiber(); // pops, binding a task; null when nothing is ready
    bool poll_is_due() noexcept;
    void poll_round() noexcept;
    void idle_round() noexcept;
    bool spin() noexcept;
    bool spin_traced() noexcept;
    [[nodiscard]] time_point next_deadline() noexcept;
    [[nodiscard]] bool anything_ready() const noexcept { return pace_.anything_in(ready_); }
    void fire_timers(time_point t) noexcept;
    void take_in() noexcept;
    void took_in_traced() noexcept;
    void make_ready(fiber_record& f) noexcept { ready_.push(f); }
    void make_ready_traced(fiber_record& f) noexcept; // it has been woken

    // carrier.cpp
    enum class ending : std::uint8_t { returned, failed, cancelled, never_ran }; // of a task
    fiber_record* bind(task_record& t); // null: there is no fiber for the task now
    fiber_record* create_carrier(std::size_t stack_bytes);
    void run_carrier(fiber_record& self) noexcept; // the body of a carrier
    void run_task(task_record& t) noexcept;
    void end_task(task_record& t) noexcept;
    void end_with(task_record& t, ending how, std::exception_ptr error) noexcept;
    bool take_next_task(fiber_record& self) noexcept;
    void rest(fiber_record& self) noexcept; // until self has a task, or is to end
    void count_turn() noexcept { // of a carrier that has found nothing; it polls if that is due
        if (!pace_.pass_switch() && poll_is_due())
            poll_round();
    }
    template <bool traced>
    void look_for_work(fiber_record& self, bool surplus) noexcept;
    template <bool traced>
    void lie_idle(fiber_record& self, fiber_record& next) noexcept;
    static void give(fiber_record& f, task_record& t) noexcept;
    void renew_budget(fiber_record& f) const noexcept { f.budget = pace_.full_budget(); }
    void carrier_ended(stack_memory memory) noexcept;
    [[nodiscard]] static bool can_run(const fiber_record& carrier, const task_record& t) noexcept {
        return carrier.stack.bytes >= t.stack_bytes;
    }

    // trim.cpp
    void trim() noexcept;
    void begin_period() noexcept;
    [[nodiscard]] bool has_surplus() const noexcept;

    // reserve.cpp
    fiber_record* bind_new(task_record& t);
    void wait_in_line(task_record& t) noexcept;
    void call_from_line() noexcept;
    void drop(task_record& t) noexcept;
    [[nodiscard]] static bool tells_handler(const task_record& t) noexcept;
    void end_dropped(task_record& t) noexcept;
    void end_dropped_meanwhile() noexcept;
    void start_reserve() noexcept;
    void run_reserve(fiber_record& self) noexcept;
    void reserve_ended() noexcept;

    // requests.cpp
    void work_on_request() noexcept;
    void end_requests() noexcept;
    void carrier_leaves(const fiber_record& f) noexcept;

    // deadlocks.cpp
    void begin_searches() noexcept;
    [[nodiscard]] time_point next_search() const noexcept;
    void search_soon() noexcept {
        search_is_due_ = true;
        call_dispatcher();
    }
    void search_for_deadlock() noexcept;
    void search();
    void tell_of(const std::vector<const fiber_record*>& cycle);
    void break_deadlock(const std::vector<const fiber_record*>& cycle);
    void end_for(deadlock_report found, bool can_cancel, const char* remedy);
    [[nodiscard]] bool nothing_can_come() const noexcept {
        return timers_.empty() && boost_deadline_ == time_point::max() && !outside_->may_deliver();
    }
    [[nodiscard]] time_point patience_ends() noexcept; // of a run that may be stuck
    void waited_until(time_point patience) noexcept;
    void ask_if_stuck() noexcept;
    void all_wait(bool but_background);
    [[nodiscard]] bool others_can_wake();
    [[nodiscard]] bool any_wait_sees(const scope_core& root) const;
    [[nodiscard]] bool only_background_goes_on() const;
    template <typename Visit>
    void for_each_task_of_run(Visit visit) const; // visit(root fiber, task, depth); false ends it

    // boost_side.cpp
    fiber_record* pick_next_record() noexcept;
    fiber_record& record_of(boost::fibers::context* c) noexcept;
    void note_departure(fiber_record& from) noexcept;
    void look_at_boost() noexcept;

    // switch.cpp, start_context.cpp
    void switch_to(fiber_record& next) noexcept;
    void arrive(fiber_record& next) noexcept;
    fiber_record& start_context(stack_memory memory,
                                void (scheduler::*body)(fiber_record& self) noexcept);
    void context_ended(stack_memory memory, void* sanitizer_state) noexcept;
    void make_context(fiber_record& f, void (scheduler::*body)(fiber_record& self) noexcept);

    fiber_record* current_ = nullptr;
    exception_state* exceptions_ = nullptr; // the thread's live state
    ready_queue ready_;
    spin_policy spinning_;
    polling_pace pace_;
    bool dispatcher_due_ = false;  // Boost-native state needs the dispatcher; a look is due then
    bool dispatcher_held_ = false; // else the dispatcher runs
    bool pass_polled_ = false;     // the dispatcher's pass has been through suspend_until
    bool leaving_ = false;
    bool told_of_no_memory_ = false; // once in a run, as the next
    bool told_of_call_once_ = false;
    const std::byte* call_once_around_run_ = nullptr;
    poller* outside_ = nullptr;
    pthread_t thread_{};                      // of this run; gdb tells threads apart by it
    local_binding** thread_locals_ = nullptr; // the main fiber goes on with its thread's
    timer_queue timers_;
    carrier_pool carriers_;
    task_store tasks_;
    std::uint64_t tasks_alive_ = 0;
    time_point next_trim_{};
    time_point last_poll_{};
    time_point boost_deadline_ = time_point::max();
    std::optional<fiber_record> main_;
    std::optional<fiber_record> dispatcher_;
    natives natives_;
    std::optional<stack_pool> stacks_;
    std::optional<uncaught_watch> uncaught_watch_;
    std::optional<overflow_watch> overflow_watch_;
    std::optional<stack_meter> meter_; // if stacks are measured
    task_line line_;                   // tasks that wait for one of max_fibers to end
    ready_queue awaiting_memory_;      // tasks that wait for the stacks of carriers that are ending
    ready_queue dropped_;              // tasks that will not run; the reserve fiber ends them
    stack_memory reserve_stack_;       // held for the whole run, whatever memory there is
    bool reserve_is_there_ = false;    // has not ended: it ends tasks dropped meanwhile
    bool reserve_may_wait_ = false;    // it is inside a handler of report()
    scheduler_options options_{};
    scheduler_statistics counters_{};
    run_request* requests_ = nullptr; // that have begun or will begin; the oldest first
    bool slice_is_done_ = false;      // since the last poll
    time_point last_search_{};        // for deadlocks, as all until deadlock_
    time_point no_search_before_{};
    duration search_pause_{};
    std::uint64_t held_waits_seen_ = 0;          // made until the last search
    time_point stuck_since_ = time_point::max(); // no fiber has run, and nothing could come
    duration stuck_pause_{};                     // until it is asked whether all wait for ever
    bool stuck_is_due_ = false;                  // it is to be asked
    bool has_background_ = false;                // there has been such a task
    bool told_of_all_wait_ = false;
    std::vector<std::vector<std::uint64_t>> told_cycles_{};
    bool search_is_due_ = false;
    std::string deadlock_{}; // that the run was cancelled for
    inbox incoming_;         // shared with other threads
    // Relaxed: a thread that may ask has synchronised with the end of the run before.
    std::atomic<std::uint64_t> run_number_{0};
    // If the run is traced. The peak in counters_ is 0 then: see note_peak().
    std::unique_ptr<trace_recorder> recorder_;
    std::uint64_t traced_peak_ = 0;

    scheduler* next_free_ = nullptr; // guarded by the pool's mutex, as the next two
    scheduler* next_made_ = nullptr;
    static constinit scheduler* all_; // that were ever made
};

// The usual case, made of a dozen instructions: a fiber is ready and no poll is due.
inline void scheduler::suspend_current() {
    if (pace_.pass_switch()) [[likely]] {
        runnable* r = ready_.front();
        if (r != nullptr && r->kind == runnable::kind_type::fiber) [[likely]] {
            ready_.pop();
            auto* next = static_cast<fiber_record*>(r);
            if (next != current_) [[likely]]
                switch_to(*next);
            else
                renew_budget(*next);
            return;
        }
    }
    loop_until_switch();
}

inline void scheduler::yield() {
    make_ready(*current_);
    suspend_current();
}

// The usual case: another fiber is ready, and no poll is due.
inline void scheduler::yield_or_poll() {
    const runnable* first = ready_.front();
    if (pace_.switch_is_left() && first != nullptr && first->kind == runnable::kind_type::fiber)
        [[likely]] {
        pace_.pass_switch_left();
        switch_to(*static_cast<fiber_record*>(ready_.exchange(*current_)));
    } else if (first != nullptr && !pace_.is_marker(*first)) {
        yield();
    } else {
        yield_alone();
    }
}

inline void scheduler::give(fiber_record& f, task_record& t) noexcept {
    f.current = &t;
    f.scope = &core_of(t.parent->scope);
    t.runner = &f;
}

inline fiber_record* scheduler::bind(task_record& t) {
    fiber_record* f = carriers_.first_idle();
    if (f == nullptr || !can_run(*f, t)) [[unlikely]]
        return bind_new(t);
    carriers_.take();
    give(*f, t);
    return f;
}

} // namespace creel::detail
