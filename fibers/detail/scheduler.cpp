#include <creel/fibers/detail/scheduler.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <boost/fiber/algo/round_robin.hpp>
#include <boost/fiber/scheduler.hpp>

#include <algorithm>
#include <cxxabi.h>
#include <pthread.h>
#include <typeinfo>

namespace creel::detail {

namespace {

using boost::fibers::context;

// While something is always ready, the outside world is looked at once in a round, which ends when
// all that was ready at the last poll has run; but not more often than every 64 switches, which
// keeps it cheap for a few fibers that yield, and not less often than every 2,048, which bounds how
// long timers and completions wait behind a long queue. Polling every 64 switches whatever the
// queue was measured and rejected: completions then pile up in front of hundreds of ready fibers,
// their data falls out of the cache, and an echo of 16 KiB on 512 connections cost 1.4 to 1.7 times
// the CPU of one that polls once a round.
constexpr int switches_per_look = 64;
constexpr int looks_per_round = 32;
// A round of slow fibers ends sooner.
constexpr duration longest_round = std::chrono::milliseconds{10};

// Idle carriers kept warm during a run; a finishing carrier beyond these ends.
constexpr std::size_t kept_idle_carriers = 4096;

// Of those, how many stay when nothing is going on, and how often the others are looked at.
constexpr std::size_t kept_while_waiting = 64;
constexpr duration trim_interval = std::chrono::seconds{1};

// Each scheduler numbers its tasks in a range of its own, so that a spawn writes nothing shared.
constexpr int id_range_bits = 40;
std::uint64_t schedulers_made = 0; // guarded by pool_mutex

std::mutex pool_mutex;
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

// Natives and the dispatcher: Boost puts the context object at the top of its own stack. ASan
// needs the bounds only to unpoison when an exception is thrown, so a page too much does no harm.
void guess_context_stack(fiber_record& f) {
    constexpr std::uintptr_t page = 4096;
    const auto top = (reinterpret_cast<std::uintptr_t>(f.context) + 2 * page) & ~(page - 1);
    f.stack_bytes = 128 * 1024;
    f.stack_bottom = reinterpret_cast<std::byte*>(top - f.stack_bytes); // NOLINT
}

struct park_timer : timer {
    waiter* who;
};

// True if all that this fiber waits for is its children; puts its nurseries on the work list.
bool awaits_children(const parker& who, nursery_core*& work) noexcept {
    if (who.waiting_on == nullptr || !nursery_core::is_join(*who.waiting_on))
        return false;
    for (const cancel_scope* s = who.scope; s != nullptr && scope_access::owner(*s) == &who;
         s = scope_access::parent(*s))
        if (nursery_core* n = scope_access::nursery(*s)) {
            n->next_to_spread = work;
            work = n;
        }
    return true;
}

// exit() destroys thread_locals first. Boost's would wait for ever for our idle carriers; this one,
// made later and so destroyed before it, says so instead.
struct exit_guard {
    ~exit_guard() {
        CREEL_ASSERT(this_scheduler == nullptr,
                     "exit() inside io::run: let its function return instead, or call _exit()");
    }
};
thread_local exit_guard no_exit;

// What a thread's natives are left to between runs: one object, for another thread that wakes one
// of them calls notify() after it has released Boost's lock, and may by then find the next run on.
thread_local boost::fibers::algo::algorithm::ptr_t between_runs;

} // namespace

constinit thread_local scheduler* this_scheduler = nullptr;

// ---- one run ------------------------------------------------------------------------------------

scheduler& scheduler::acquire() {
    const std::lock_guard lock{pool_mutex};
    if (scheduler* s = free_schedulers) {
        free_schedulers = s->next_free_;
        return *s;
    }
    auto* s = new scheduler;
    s->next_id_ = (schedulers_made++ << id_range_bits) + 1;
    intrusive_ptr_add_ref(s); // so that Boost never deletes it
    return *s;
}

void scheduler::release(scheduler& s) noexcept {
    const std::lock_guard lock{pool_mutex};
    s.next_free_ = free_schedulers;
    free_schedulers = &s;
}

void scheduler::run(poller& outside, const scheduler_options& options,
                    const std::function<void()>& body) {
    CREEL_ASSERT(this_scheduler == nullptr,
                 "io::run inside io::run: one run at a time on a thread; spawn into a nursery, or "
                 "use another thread");
    CREEL_ASSERT(context::active()->is_context(boost::fibers::type::main_context),
                 "io::run must be called from the thread's own stack, not from a Boost fiber");
    scheduler& s = acquire();
    static_cast<void>(&no_exit); // makes it, after Boost's own
    s.enter(outside, options);
    body();
    s.leave();
    release(s);
}

void scheduler::enter(poller& outside, const scheduler_options& options) {
    outside_ = &outside;
    options_ = options;
    counters_ = {};
    leaving_ = false;
    dispatcher_held_ = false;
    pass_polled_ = false;
    polls_in_ = switches_per_look;
    looks_ = 0;
    boost_deadline_ = time_point::max();
    exceptions_ = reinterpret_cast<exception_state*>(abi::__cxa_get_globals());
    stacks_.emplace();
    nodes_.emplace();
    main_.emplace(fiber_record::fiber_kind::main);
    main_->context = context::active();
    main_->home = this;
    find_thread_stack(*main_);
    adopt_sanitizer_state(*main_);
    renew_budget(*main_);
    main_->id = next_id_++;
    last_poll_ = outside.now();
    next_trim_ = last_poll_;
    idle_low_ = 0;
    dispatcher_.emplace(fiber_record::fiber_kind::dispatcher);
    dispatcher_->home = this;
    current_ = &*main_;
    {
        const std::lock_guard lock{kick_mutex_};
        kickable_ = &outside;
    }
    this_scheduler = this;
    // Hands over what is ready: the dispatcher always, natives if there are any.
    main_->context->get_scheduler()->set_algo(boost::fibers::algo::algorithm::ptr_t{this});
    call_dispatcher(); // natives that slept while no run was on must be looked at once
}

// All tasks are done, but for those of Boost fibers inside a creel call, which are awaited. Idle
// carriers get a null task and return; each dies in Boost's dispatcher, which gives its stack back.
// None may be left to the thread's exit: Boost would wait there for ever. Then the stock algorithm
// takes over what natives are left.
void scheduler::leave() noexcept {
    while (carriers_ != 0 || natives_inside()) {
        end_idle(idle_count_);
        if (!anything_ready() && !dispatcher_due_)
            idle_round(); // natives in creel calls: wait with them
        yield();
    }
    drain_inbox();
    remove_marker();
    leaving_ = true;
    if (between_runs == nullptr)
        between_runs.reset(new boost::fibers::algo::round_robin);
    main_->context->get_scheduler()->set_algo(between_runs);
    this_scheduler = nullptr;
    {
        const std::lock_guard lock{kick_mutex_};
        kickable_ = nullptr;
    }
    CREEL_ASSERT(timers_.empty(), "a timer outlived its scheduler's run");
    forget_natives();
    for (auto& [c, f] : natives_)
        drop_sanitizer_state(f);
    natives_.clear();
    drop_sanitizer_state(*dispatcher_);
    main_.reset();
    dispatcher_.reset();
    stacks_.reset();
    nodes_.reset();
    timers_.trim();
    current_ = nullptr;
    outside_ = nullptr;
}

// What is left in the queue, Boost's natives, goes to the next algorithm, which knows no markers.
void scheduler::remove_marker() noexcept {
    if (!marker_queued_)
        return;
    ready_queue others;
    while (runnable* r = ready_.pop())
        if (r != &marker_)
            others.push(*r);
    while (runnable* r = others.pop())
        ready_.push(*r);
    marker_queued_ = false;
}

// ---- waiting ------------------------------------------------------------------------------------

wake_reason scheduler::park(waiter& w) {
    fiber_record& self = *current_;
    if (w.woken_)
        return wake_reason::signalled;
    self.waiting_on = &w;
    if (scope_access::may_be_cancelled(self) && w.kind_->cancellable &&
        scope_access::visible_cancel(self) != nullptr) [[unlikely]]
        interrupt(w, wake_reason::cancelled);
    suspend_current();
    return self.reason;
}

wake_reason scheduler::park_until(waiter& w, time_point deadline, duration span) {
    park_timer t;
    t.who = &w;
    t.fire = [](timer& fired) noexcept {
        waiter& due = *static_cast<park_timer&>(fired).who;
        due.owner_->home->interrupt(due, wake_reason::timed_out);
    };
    try {
        timers_.arm(t, deadline, span);
    } catch (const std::bad_alloc&) {
        // The caller has published the waiter: take it back before throwing, unless it was taken.
        w.withdraw_requested_ = true;
        if (!w.woken_ && w.kind_->withdraw(w, wake_reason::timed_out) == withdrawal::withdrawn)
            throw;
        return park(w);
    }
    const wake_reason reason = park(w);
    timers_.cancel(t);
    return reason;
}

void scheduler::woken(waiter& w) noexcept {
    w.woken_ = true;
    parker& who = *w.owner_;
    if (who.waiting_on == &w) { // else it has not parked yet, and will see woken_
        who.waiting_on = nullptr;
        who.reason = wake_reason::signalled;
        make_ready(static_cast<fiber_record&>(who));
    }
}

void scheduler::interrupt(waiter& w, wake_reason why) noexcept {
    if (w.withdraw_requested_ || w.woken_)
        return;
    w.withdraw_requested_ = true;
    if (w.kind_->withdraw(w, why) == withdrawal::pending)
        return;
    parker& who = *w.owner_;
    who.waiting_on = nullptr;
    who.reason = why;
    make_ready(static_cast<fiber_record&>(who));
}

void scheduler::yield_spent() {
    polls_in_ = 0; // it has run long: look outside now
    looks_ = looks_per_round;
    yield();
}

// With nothing ready it polls and waits on the parking fiber's own stack: if its own wake comes
// first, it returns without a switch.
void scheduler::suspend_slowly() {
    fiber_record& self = *current_;
    for (;;) {
        if (polls_in_ < 0 && poll_is_due())
            poll_round();
        if (dispatcher_due_) {
            dispatcher_held_ = false;
            switch_to(*dispatcher_);
            return;
        }
        fiber_record* next = next_fiber();
        if (next == &self) {
            renew_budget(self);
            return;
        }
        if (next != nullptr) {
            switch_to(*next);
            return;
        }
        idle_round();
    }
}

fiber_record* scheduler::next_fiber() {
    while (runnable* r = pop_ready()) {
        if (r->kind == runnable::kind_type::fiber)
            return static_cast<fiber_record*>(r);
        if (fiber_record* f = bind(static_cast<task&>(*r)))
            return f;
    }
    return nullptr;
}

// ---- the outside world --------------------------------------------------------------------------

// Pops what can run; passes over the marker, and notes that its round is over.
runnable* scheduler::pop_ready() noexcept {
    runnable* r = ready_.pop();
    if (r == &marker_) [[unlikely]] {
        marker_queued_ = false;
        if (looks_ > 0)
            polls_in_ = 0; // it was a long one: poll at the next switch
        r = ready_.pop();
    }
    return r;
}

// Where the poll itself is put off, other threads' wakes and our timers are not: they cost little.
bool scheduler::poll_is_due() noexcept {
    if (!marker_queued_ || ++looks_ >= looks_per_round)
        return true;
    const time_point t = outside_->now();
    if (t - last_poll_ >= longest_round)
        return true;
    polls_in_ = switches_per_look;
    drain_inbox();
    fire_timers(t);
    look_at_boost();
    return false;
}

void scheduler::begin_round() noexcept {
    polls_in_ = switches_per_look;
    looks_ = 0;
    if (!marker_queued_ && !ready_.empty()) {
        marker_queued_ = true;
        ready_.push(marker_);
    }
}

void scheduler::poll_round() noexcept {
    ++counters_.polls;
    outside_->poll();
    take_in();
}

// What the poller delivered comes before what timers end: success beats a deadline.
void scheduler::take_in() noexcept {
    drain_inbox();
    last_poll_ = outside_->now();
    fire_timers(last_poll_);
    begin_round();
    look_at_boost();
}

// Nothing is ready. The store to sleeping_ and the loads after it pair with the push and the load
// in post() and notify(), all seq_cst: either we see their work, or they see us asleep and kick.
void scheduler::idle_round() noexcept {
    if (!starved_.empty()) [[unlikely]] {
        drop_cancelled_starved();
        if (!anything_ready() && !starved_.empty() && timers_.empty() &&
            only_children_are_awaited())
            give_up_on_starved();
    }
    if (idle_count_ > kept_while_waiting)
        trim();
    if (anything_ready()) // those that end for the trim are among them
        return;
    sleeping_.store(true);
    if (inbox_.load() == nullptr && !boost_remote_.load()) {
        ++counters_.waits;
        time_point until = timers_.next_deadline();
        if (boost_deadline_ != time_point::max()) // Boost's clock is real, the poller's may not be
            until = std::min(until, outside_->now() + (boost_deadline_ - clock::now()));
        outside_->wait_until(until);
    } else {
        ++counters_.polls;
        outside_->poll(); // other threads that keep us busy must not starve the I/O
    }
    sleeping_.store(false, std::memory_order_relaxed); // a needless kick is harmless
    take_in();
}

void scheduler::look_at_boost() noexcept {
    if (boost_remote_.load(std::memory_order_relaxed) ||
        (boost_deadline_ != time_point::max() && boost_deadline_ <= clock::now()))
        call_dispatcher();
}

void scheduler::drain_inbox() noexcept {
    if (inbox_.load(std::memory_order_relaxed) == nullptr)
        return;
    inbox_node* newest = inbox_.exchange(nullptr, std::memory_order_acquire);
    inbox_node* oldest = nullptr;
    while (newest != nullptr) { // a stack: turn it round, first come first served
        inbox_node* next = newest->next_in_inbox;
        newest->next_in_inbox = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest != nullptr) {
        inbox_node* next = oldest->next_in_inbox;
        oldest->deliver(*oldest);
        oldest = next;
    }
}

void scheduler::fire_timers(time_point t) noexcept {
    while (timer* due = timers_.pop_due(t))
        due->fire(*due);
}

// Only the pusher that finds the inbox empty has to look whether we sleep: the others know that
// one before them did, or that we are about to drain.
void scheduler::post(inbox_node& node) noexcept {
    inbox_node* head = inbox_.load(std::memory_order_relaxed);
    do
        node.next_in_inbox = head;
    while (!inbox_.compare_exchange_weak(head, &node));
    if (head == nullptr)
        kick_if_sleeping();
}

void scheduler::notify() noexcept {
    boost_remote_.store(true);
    kick_if_sleeping();
}

void scheduler::kick_if_sleeping() noexcept {
    if (!sleeping_.load())
        return;
    const std::lock_guard lock{kick_mutex_};
    if (kickable_ != nullptr)
        kickable_->wake();
}

// ---- tasks and carriers -------------------------------------------------------------------------

task* scheduler::make_task(nursery_core& home, std::size_t bytes, std::size_t align,
                           std::source_location where) {
    // What operator new and the pool align for needs no slack; powers of two need no division.
    const std::size_t slack = align > alignof(std::max_align_t) ? align : 0;
    std::uint32_t granted = 0;
    void* memory = nodes_->allocate(sizeof(task) + align - 1 + slack + bytes, granted);
    task* t = ::new (memory) task(home, where);
    t->node_bytes = granted;
    const auto start = reinterpret_cast<std::uintptr_t>(memory);
    t->offset =
        static_cast<std::uint32_t>(((start + sizeof(task) + align - 1) & ~(align - 1)) - start);
    t->stack_bytes = options_.stack_bytes;
    t->id = next_id_++;
    return t;
}

void scheduler::free_task(task& t) noexcept {
    const std::uint32_t granted = t.node_bytes;
    t.~task();
    nodes_->deallocate(&t, granted);
}

void scheduler::submit(task& t) noexcept {
    ++counters_.tasks_spawned;
    counters_.peak_tasks =
        std::max(counters_.peak_tasks, counters_.tasks_spawned - counters_.tasks_finished);
    ready_.push(t);
}

bool scheduler::can_run(const fiber_record& carrier, const task& t) const noexcept {
    return carrier.stack.bytes >= t.stack_bytes;
}

void scheduler::give(fiber_record& f, task& t) noexcept {
    f.current = &t;
    f.scope = &t.home->scope;
    t.runner = &f;
}

fiber_record* scheduler::bind(task& t) {
    fiber_record* f = idle_;
    if (f != nullptr && can_run(*f, t)) {
        idle_ = f->next_idle;
        idle_low_ = std::min(idle_low_, --idle_count_);
    } else {
        f = create_carrier(t.stack_bytes);
        if (f == nullptr) {
            starve(t);
            return nullptr;
        }
    }
    give(*f, t);
    return f;
}

fiber_record* scheduler::create_carrier(std::size_t stack_bytes) {
    if (options_.max_fibers != 0 && carriers_ >= options_.max_fibers)
        return nullptr;
    try {
        fiber_record& f = start_context(stacks_->allocate(stack_bytes));
        f.has_default_stack = stack_bytes == options_.stack_bytes;
        ++carriers_;
        ++counters_.fibers_created;
        return &f;
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}

void scheduler::carrier_ended(stack_memory memory) noexcept {
    stacks_->release(memory);
    --carriers_;
    // There may be room for those who wait for a stack: they go first, in their order.
    if (!starved_.empty())
        ready_.prepend(starved_);
}

// No stack for this task now. An idle carrier that it cannot use makes room by ending.
void scheduler::starve(task& t) noexcept {
    starved_.push(t);
    end_idle(1);
}

void scheduler::end_idle(std::size_t count) noexcept {
    for (; count != 0 && idle_ != nullptr; --count) {
        fiber_record& f = *idle_;
        idle_ = f.next_idle;
        --idle_count_;
        f.current = nullptr;
        make_ready(f);
    }
    idle_low_ = std::min(idle_low_, idle_count_);
}

// Ends half of the idle carriers that were not needed since the last time, and gives their stacks
// back: the memory of a burst is gone some rounds of waiting later.
void scheduler::trim() noexcept {
    const time_point t = outside_->now();
    if (t < next_trim_)
        return;
    next_trim_ = t + trim_interval;
    const std::size_t surplus = std::min(idle_low_, idle_count_ - kept_while_waiting);
    stacks_->trim(kept_while_waiting);
    timers_.trim();
    end_idle((surplus + 1) / 2);
    idle_low_ = idle_count_;
}

void scheduler::run_carrier(fiber_record& self) noexcept {
    while (self.current != nullptr) {
        run_task(*self.current);
        if (!take_next_task(self))
            rest(self);
    }
}

inline void scheduler::run_task(task& t) noexcept {
    nursery_core& home = *t.home;
    if (!scope_access::may_be_cancelled(*current_) ||
        scope_access::visible_cancel(*current_) == nullptr) [[likely]] { // else it never starts
        std::exception_ptr error;
        bool was_cancelled = false;
        try {
            t.kind_of_closure->invoke(t.closure());
        } catch (const cancelled&) {
            error = std::current_exception();
            was_cancelled = true;
        } catch (...) {
            error = std::current_exception();
        }
        // What f owned is released before the nursery hears of the end.
        t.kind_of_closure->destroy(t.closure());
        CREEL_ASSERT(current_->scope == &home.scope, "a task ended inside a scope it entered");
        if (error != nullptr) [[unlikely]]
            home.failed(std::move(error), was_cancelled, &t);
    } else {
        t.kind_of_closure->destroy(t.closure());
    }
    t.runner = nullptr;
    home.child_ended(t);
    free_task(t);
    ++counters_.tasks_finished;
}

// The usual case of rest(): the next one in the queue is a task, and no poll is due.
inline bool scheduler::take_next_task(fiber_record& self) noexcept {
    runnable* r = ready_.front();
    if (r == nullptr || r->kind != runnable::kind_type::task || polls_in_ <= 0 ||
        !starved_.empty() || !can_run(self, static_cast<task&>(*r)))
        return false;
    --polls_in_;
    ready_.pop();
    give(self, static_cast<task&>(*r));
    renew_budget(self);
    return true;
}

// What a carrier does between two tasks: takes the next unstarted one in place, without a switch,
// or lets others run. Returns with self.current set, or null when it shall end.
void scheduler::rest(fiber_record& self) noexcept {
    self.current = nullptr;
    self.scope = nullptr;
    bool surplus = idle_count_ >= kept_idle_carriers || !self.has_default_stack;
    if (!starved_.empty()) {
        if (can_run(self, static_cast<task&>(*starved_.front())))
            ready_.push_front(*starved_.pop());
        else
            surplus = true; // its stack may be what that task waits for
    }
    for (;;) {
        if (--polls_in_ < 0 && poll_is_due())
            poll_round();
        if (dispatcher_due_) {
            if (!surplus) {
                dispatcher_held_ = false;
                lie_idle(self, *dispatcher_);
            }
            return; // surplus: Boost ends it, and then runs the dispatcher
        }
        runnable* r = pop_ready();
        if (r == nullptr) {
            if (surplus)
                return;
            idle_round();
            continue;
        }
        if (r->kind == runnable::kind_type::task && can_run(self, static_cast<task&>(*r))) {
            give(self, static_cast<task&>(*r));
            renew_budget(self);
            return;
        }
        if (surplus) {
            ready_.push_front(*r);
            return;
        }
        fiber_record* next = r->kind == runnable::kind_type::task ? bind(static_cast<task&>(*r))
                                                                  : static_cast<fiber_record*>(r);
        if (next != nullptr) {
            lie_idle(self, *next);
            return;
        }
    }
}

// Until bind() gives it a task, or leave() tells it to end.
void scheduler::lie_idle(fiber_record& self, fiber_record& next) noexcept {
    self.next_idle = idle_;
    idle_ = &self;
    ++idle_count_;
    switch_to(next);
}

// Everybody who is parked waits for children, and no timer will cancel anybody: only tasks that
// have no stack could go on, so waiting longer is of no use. Operations under way belong to fibers
// that are parked on them, so none is forgotten here.
bool scheduler::only_children_are_awaited() noexcept {
    for (const auto& [context, f] : natives_)
        if (f.waiting_on != nullptr)
            return false;
    nursery_core* work = nullptr;
    if (!awaits_children(*main_, work))
        return false;
    while (work != nullptr) {
        nursery_core* n = work;
        work = n->next_to_spread;
        for (task* t = n->first_child; t != nullptr; t = t->next)
            if (t->runner != nullptr && !awaits_children(*t->runner, work))
                return false;
    }
    return true;
}

// A cancelled nursery does not run what has not started, and must not wait for it either.
void scheduler::drop_cancelled_starved() noexcept {
    ready_queue others;
    while (runnable* r = starved_.pop()) {
        auto& t = static_cast<task&>(*r);
        if (t.home->cancelled_for_children())
            t.home->child_starved(t);
        else
            others.push(t);
    }
    if (!others.empty())
        starved_.prepend(others);
}

// The oldest fails; its nursery's opener does that, on its own stack, once it is in join().
void scheduler::give_up_on_starved() noexcept {
    auto& t = static_cast<task&>(*starved_.pop());
    t.home->child_starved(t);
}

void scheduler::fail_unstarted(task& t) noexcept {
    t.kind_of_closure->destroy(t.closure());
    if (!t.home->cancelled_for_children())
        t.home->failed(std::make_exception_ptr(std::bad_alloc{}), false, &t);
    t.home->child_ended(t);
    free_task(t);
    ++counters_.tasks_finished;
}

// ---- Boost's side -------------------------------------------------------------------------------

// The outermost scope of the main fiber, which natives wait under.
cancel_scope* scheduler::root_scope() noexcept {
    cancel_scope* root = main_->scope;
    while (root != nullptr && scope_access::parent(*root) != nullptr)
        root = const_cast<cancel_scope*>(scope_access::parent(*root));
    return root;
}

void scheduler::update_natives(nursery_core*& work) noexcept {
    for (auto& [c, f] : natives_)
        scope_access::update_chain(f, nullptr, nullptr, work);
}

// The outermost scope of main is entered, or left, while natives live on.
void scheduler::move_natives(const cancel_scope* from, cancel_scope* to) noexcept {
    for (auto& [c, f] : natives_) {
        cancel_scope* outermost = nullptr; // of its own
        for (cancel_scope* s = f.scope; s != nullptr && scope_access::owner(*s) == &f;
             s = scope_access::parent(*s))
            outermost = s;
        if (outermost == nullptr) {
            if (f.scope == from)
                f.scope = to;
        } else if (scope_access::parent(*outermost) == from) {
            scope_access::set_parent(*outermost, to);
        }
    }
}

// True while a Boost fiber is inside a creel call: parked in one, or in a scope or nursery of its
// own.
bool scheduler::natives_inside() const noexcept {
    for (const auto& [c, f] : natives_)
        if (f.waiting_on != nullptr || (f.scope != nullptr && scope_access::owner(*f.scope) == &f))
            return true;
    return false;
}

fiber_record& scheduler::record_of(context* c) {
    if (c == main_->context)
        return *main_;
    if (c->is_context(boost::fibers::type::dispatcher_context)) {
        if (dispatcher_->context == nullptr) {
            dispatcher_->context = c;
            guess_context_stack(*dispatcher_);
        }
        return *dispatcher_;
    }
    boost::fibers::fiber_properties* p = c->get_properties();
    if (p != nullptr && typeid(*p) == typeid(fiber_record))
        return static_cast<fiber_record&>(*p);
    const auto [found, is_new] = natives_.try_emplace(c, fiber_record::fiber_kind::native);
    fiber_record& f = found->second;
    if (is_new) {
        f.context = c;
        f.home = this;
        f.scope = root_scope();
        f.id = next_id_++;
        guess_context_stack(f);
    }
    return f;
}

// The current context is left by one of Boost's own ways.
void scheduler::note_departure(fiber_record& from) noexcept {
    const context& c = *from.context;
    if (c.sleep_is_linked())
        call_dispatcher(); // a new sleeper: the dispatcher must learn its time
    // terminate() has unlinked it from the workers: it is dead, and the dispatcher must release it.
    if (c.is_context(boost::fibers::type::worker_context) && !c.worker_is_linked()) {
        call_dispatcher();
        if (from.what == fiber_record::fiber_kind::native)
            ended_natives_.push_back(natives_.extract(from.context));
    }
}

// Must never block, and from any context but the dispatcher never be null: Boost calls it holding
// spinlocks. Waiting is the dispatcher's part, in suspend_until.
fiber_record* scheduler::pick_next_record() noexcept {
    if (current_->what == fiber_record::fiber_kind::dispatcher) {
        // The first answer of a pass is null: Boost then calls suspend_until, the only way to learn
        // when its next sleeper is due.
        if (!pass_polled_) {
            pass_polled_ = true;
            return nullptr;
        }
        fiber_record* next = next_fiber();
        if (next != nullptr)
            pass_polled_ = false;
        return next;
    }
    note_departure(*current_);
    if (--polls_in_ >= 0 && !dispatcher_due_) // a poll that is due is the dispatcher's part too
        if (fiber_record* next = next_fiber())
            return next;
    dispatcher_held_ = false;
    return &*dispatcher_;
}

void scheduler::forget_natives() noexcept {
    for (auto& ended : ended_natives_)
        drop_sanitizer_state(ended.mapped());
    ended_natives_.clear();
}

bool scheduler::has_ready_fibers() const noexcept {
    return !ready_.empty() || dispatcher_held_;
}

void scheduler::suspend_until(const std::chrono::steady_clock::time_point& deadline) noexcept {
    boost_deadline_ = deadline;
    dispatcher_due_ = false; // else it would be chosen again and again
    forget_natives();
    if (boost_remote_.exchange(false))
        return; // the dispatcher takes them in at once
    if (anything_ready())
        poll_round();
    else
        idle_round();
}

// ---- asking -------------------------------------------------------------------------------------

int scheduler::uncaught_exceptions_of(const parker& who) const noexcept {
    return static_cast<int>(
        &who == current_ ? exceptions_->uncaught_exceptions
                         : static_cast<const fiber_record&>(who).exceptions.uncaught_exceptions);
}

scheduler_statistics scheduler::statistics() const noexcept {
    scheduler_statistics s = counters_;
    s.fibers_alive = carriers_;
    s.fibers_idle = idle_count_;
    s.timers_armed = timers_.size();
    return s;
}

} // namespace creel::detail
