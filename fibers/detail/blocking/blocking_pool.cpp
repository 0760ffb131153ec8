#include <creel/fibers/detail/blocking/blocking_pool.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/detail/cancel/token.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/local.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <new>
#include <system_error>
#include <utility>

#include <pthread.h>

namespace creel {

namespace {

// As many calls are served at one time in the whole process; tokio allows 512, Python min(32, cores
// + 4).
constexpr std::size_t most_shared_threads = 64;

// A helper thread with nothing to do ends after this time.
constexpr std::chrono::seconds idle_time{10};

// A thread that cannot be had is asked for again after the first pause, and so on, each twice as
// long up to the longest. With no helper that could take the call instead, it fails when it has
// been refused this often: after half a second.
constexpr std::chrono::milliseconds first_pause{1};
constexpr std::chrono::milliseconds longest_pause{256};
constexpr int most_refusals = 10;

// The call that runs on this helper thread.
struct running_call {
    cancel_scope* scope = nullptr; // around f, on this thread
    const cancel_token* callers = nullptr;
    detail::debugged_call debugged{};
};
constinit thread_local running_call here{};

constinit std::atomic<detail::blocking_pool*> shared_pool{nullptr};
constinit std::atomic<unsigned> forks{0}; // between the program's start and this process

} // namespace

void check_cancelled() {
    throw_if_cancelled();
    if (here.scope == nullptr || !on_scheduler())
        return;
    // f has a run of its own, whose scopes do not lie in that of the call.
    detail::parker& me = detail::this_thread_parker();
    detail::scope_access::glance(me);
    if (const cancel_scope* s = detail::scope_access::visible_cancel(me))
        throw cancelled{detail::scope_access::reason_of(*s)};
}

namespace detail {

blocking_job::~blocking_job() {
    drop_locals(locals);
}

std::string blocking_job::describe() const {
    std::string text = "blocking call";
    if (!name.empty())
        text += " \"" + name + '"';
    text += " at ";
    text += where.file_name();
    return text + ':' + std::to_string(where.line());
}

debugged_call this_debugged_call() noexcept {
    return here.debugged;
}

const cancel_token* token_of_caller(const cancel_scope& scope) noexcept {
    return &scope == here.scope ? here.callers : nullptr;
}

namespace {

// Allocates nothing.
void name_abandoned_call(const blocking_job& job) noexcept {
    std::fprintf(stderr, "creel: the blocking call%s%s%s at %s:%u was abandoned and still runs\n",
                 job.name.empty() ? "" : " \"", job.name.c_str(), job.name.empty() ? "" : "\"",
                 job.where.file_name(), static_cast<unsigned>(job.where.line()));
}

[[noreturn]] void throw_without_thread(const blocking_job& job, int error) {
    throw std::system_error(error, std::system_category(),
                            "the " + job.describe() +
                                " needs a helper thread, and none can be started");
}

} // namespace

// What f sees of its caller. On the caller's stack until a helper takes it over.
struct blocking_pool::caller_view {
    explicit caller_view(const parker& caller)
        : deadline(scope_access::visible_deadline(caller)),
          party(this_party()),
          debug(caller.home->debug()) {
        ::pthread_sigmask(SIG_SETMASK, nullptr, &signals);
    }

    // Of the scope in which the caller waits: with it f is cancelled. So f sees a cancel as a child
    // of the caller would, also after the caller has abandoned it, and reads nothing of the
    // caller's.
    cancel_token token = current_token();
    time_point deadline;
    party_number party;
    bool debug;
    sigset_t signals;
};

struct blocking_pool::call_waiter : waiter {
    static withdrawal withdraw(waiter& w, wake_reason) noexcept {
        auto& self = static_cast<call_waiter&>(w);
        return self.pool->withdraw(self);
    }
    static void describe(const waiter& w, std::string& text) {
        text += "the " + static_cast<const call_waiter&>(w).job->describe();
    }
    static constexpr waiter_kind table{&withdraw, &describe};

    call_waiter(blocking_pool& p, blocking_job& j, caller_view& v, scheduler& h) noexcept
        : waiter(table), pool(&p), job(&j), view(&v), home(&h) {}
    ~call_waiter() { home->cancel(next_try); }

    // When it is refused a thread. Throws: std::bad_alloc.
    void try_later() {
        next_try.of = this;
        home->arm(next_try, now() + pause, pause);
        pause = std::min<duration>(2 * pause, longest_pause);
    }

    struct retry_timer : timer {
        retry_timer() noexcept
            : timer([](timer& due) noexcept {
                  call_waiter& w = *static_cast<retry_timer&>(due).of;
                  w.pool->retry(w);
              }) {}
        call_waiter* of = nullptr;
    };

    blocking_pool* pool;
    blocking_job* job; // not to be touched any more once `abandoned`
    caller_view* view;
    scheduler* home;
    retry_timer next_try; // the caller's thread, as all below but what it reads once woken
    duration pause = first_pause;
    int refusals = 0;
    int error = 0;          // it was refused a thread for good
    bool abandoned = false; // what became of the job
    bool sent_back = false;
};

void blocking_pool::list::push(blocking_job& job) noexcept {
    job.previous = last;
    job.next = nullptr;
    (last != nullptr ? last->next : first) = &job;
    last = &job;
    ++size;
}

void blocking_pool::list::push_front(blocking_job& job) noexcept {
    job.previous = nullptr;
    job.next = first;
    (first != nullptr ? first->previous : last) = &job;
    first = &job;
    ++size;
}

void blocking_pool::list::remove(blocking_job& job) noexcept {
    (job.previous != nullptr ? job.previous->next : first) = job.next;
    (job.next != nullptr ? job.next->previous : last) = job.previous;
    --size;
}

// ---- one pool for the process -------------------------------------------------------------------

// No guard of the compiler's: in a forked child it might be held for ever.
blocking_pool& blocking_pool::shared() {
    if (blocking_pool* known = shared_pool.load(std::memory_order_acquire)) // pairs with the CAS
        return *known;
    auto* const made = new blocking_pool{most_shared_threads};
    blocking_pool* known = nullptr;
    if (shared_pool.compare_exchange_strong(known, made))
        return *made;
    delete made;
    return *known;
}

// In the child there is only the thread that forked. The pool's mutex may be held, its lists half
// linked, and its condition variables full of waiters, all by threads that are not there; so
// nothing of it is read or destroyed, and a new one takes its place. If the thread is a helper in
// the middle of a call, the tokens of the caller may be locked in the same way: the rest of the
// call no longer asks them. It may exec, _exit, or have a run of its own, but not return: help().
void blocking_pool::renew_after_fork() noexcept {
    forks.fetch_add(1, std::memory_order_relaxed); // there is one thread
    if (blocking_pool* pool = shared_pool.load(std::memory_order_relaxed))
        ::new (static_cast<void*>(pool)) blocking_pool{most_shared_threads};
    if (here.scope == nullptr)
        return;
    scope_access::forget_links(*here.scope);
    this_thread_parker().caller_deadline = time_point::max();
    here = {};
}

blocking_pool::~blocking_pool() {
    std::unique_lock lock{mutex_};
    closing_ = true;
    work_.notify_all();
    all_ended_.wait(lock, [&] { return threads_ == 0; });
}

// ---- the caller's side --------------------------------------------------------------------------

void blocking_pool::run(blocking_job& job) {
    if (!run_queued(job))
        throw_cancelled();
}

bool blocking_pool::run_or_abandon(blocking_job& job, void (*destroy)(blocking_job&) noexcept) {
    job.destroy = destroy;
    return run_queued(job);
}

// False: cancelled while it ran, and abandoned.
bool blocking_pool::run_queued(blocking_job& job) {
    check_cancel();
    parker& me = this_parker();
    if (me.home == nullptr) { // a plain thread may block itself
        run_here(job);
        return true;
    }
    job.locals = share_locals(me.home->locals());
    caller_view view{me};
    for (;;) {
        call_waiter w{*this, job, view, *me.home};
        enqueue(job, w);
        if (park(w) == wake_reason::cancelled) {
            if (!w.abandoned)
                throw_cancelled();
            return false;
        }
        if (w.error != 0)
            throw_without_thread(job, w.error);
        if (!w.sent_back)
            return true;
        throw_if_cancelled();
    }
}

void blocking_pool::enqueue(blocking_job& job, call_waiter& caller) {
    const std::lock_guard lock{mutex_};
    list& line = line_of(job);
    job.caller = &caller;
    job.home = caller.home;
    if (job.state == blocking_job::state_type::sent_back) {
        line.push_front(job);
    } else {
        job.ticket = next_ticket_++;
        line.push(job);
    }
    job.state = blocking_job::state_type::queued;
    if (see_to_thread() == 0)
        return;
    try {
        caller.try_later();
    } catch (...) {
        line.remove(job);
        throw;
    }
}

// First come, first served. A call that may be abandoned leaves the others their turn while there
// are too many of its kind.
blocking_job* blocking_pool::next_to_run() const noexcept {
    blocking_job* const leavable = leavable_ < most_abandoned_ ? leavable_line_.first : nullptr;
    if (leavable == nullptr || line_.first == nullptr)
        return leavable != nullptr ? leavable : line_.first;
    return leavable->ticket < line_.first->ticket ? leavable : line_.first;
}

std::size_t blocking_pool::ready_to_run() const noexcept {
    return line_.size +
           std::min(leavable_line_.size, most_abandoned_ - std::min(leavable_, most_abandoned_));
}

// After a call has come to the line, or a thread has gone from those that serve it. An error number
// if a thread is wanted and cannot be had.
int blocking_pool::see_to_thread() noexcept {
    const std::size_t calls = ready_to_run();
    if (calls == 0)
        return 0;
    if (idle_ >= calls) {
        work_.notify_one();
        return 0;
    }
    if (serving() >= most_threads_)
        return 0;
    const auto body = [](void* pool) -> void* {
        static_cast<blocking_pool*>(pool)->help();
        return nullptr;
    };
    const int error = start_(body, this);
    if (error == 0)
        ++threads_;
    return error;
}

// The caller's thread, while it waits in line.
void blocking_pool::retry(call_waiter& w) noexcept {
    const std::lock_guard lock{mutex_};
    if (w.abandoned || w.job->state != blocking_job::state_type::queued)
        return;
    int error = see_to_thread();
    if (error == 0)
        return;
    if (serving() != 0 || ++w.refusals < most_refusals) {
        try {
            w.try_later();
            return;
        } catch (const std::bad_alloc&) {
            error = ENOMEM;
        }
    }
    line_of(*w.job).remove(*w.job);
    w.job->state = blocking_job::state_type::gone;
    w.error = error;
    wake(w);
}

// For a call that waits in line on a thread that does not know that a new helper is wanted: it
// looks for one itself.
void blocking_pool::send_back(blocking_job& job) noexcept {
    line_of(job).remove(job);
    job.state = blocking_job::state_type::sent_back;
    auto& caller = static_cast<call_waiter&>(*job.caller);
    caller.sent_back = true;
    wake(caller);
}

// The caller's thread. Under the mutex each call is in one state, so either the helper finds it
// abandoned, or the caller finds it done.
withdrawal blocking_pool::withdraw(call_waiter& w) noexcept {
    blocking_job& job = *w.job;
    const std::lock_guard lock{mutex_};
    switch (job.state) {
    case blocking_job::state_type::queued:
        line_of(job).remove(job);
        job.state = blocking_job::state_type::gone;
        return withdrawal::withdrawn; // f has not run, and will not
    case blocking_job::state_type::running:
        if (!job.may_be_abandoned())
            return withdrawal::pending; // f sees the cancel by its token
        job.state = blocking_job::state_type::abandoned;
        abandoned_.push(job);
        w.abandoned = true;
        if (see_to_thread() != 0) // in the place of the helper that is left to it
            send_back(*next_to_run());
        return withdrawal::withdrawn;
    default:
        return withdrawal::pending;
    }
}

// ---- the helper's side --------------------------------------------------------------------------

void blocking_pool::help() noexcept {
    ::pthread_setname_np(::pthread_self(), "creel-blocking");
    leave_pinned_core();
    const unsigned process = forks.load(std::memory_order_relaxed);
    std::unique_lock lock{mutex_};
    while (blocking_job* const job = wait_for_call(lock)) {
        line_of(*job).remove(*job);
        job->state = blocking_job::state_type::running;
        const bool is_leavable = job->may_be_abandoned();
        leavable_ += is_leavable ? 1 : 0;
        {
            const caller_view view = std::move(*static_cast<call_waiter&>(*job->caller).view);
            lock.unlock();
            carry_out(*job, view);
        }
        CREEL_ASSERT(process == forks.load(std::memory_order_relaxed),
                     "the function given to blocking() has forked, and returns in the child, where "
                     "nobody waits for it: call exec or _exit there");
        lock.lock();
        if (job->state == blocking_job::state_type::abandoned) {
            abandoned_.remove(*job);
            lock.unlock();
            job->destroy(*job);
        } else {
            // From here on a cancel of the caller finds its wake on the way, and it waits for it.
            job->state = blocking_job::state_type::done;
            waiter& caller = *job->caller;
            lock.unlock();
            wake(caller);
        }
        lock.lock();
        leavable_ -= is_leavable ? 1 : 0;
    }
    if (--threads_ == 0)
        all_ended_.notify_all(); // with the lock held, for the pool may go as soon as it is free
}

// Null: the thread has nothing to do any more, or has been replaced while its call was abandoned.
blocking_job* blocking_pool::wait_for_call(std::unique_lock<std::mutex>& lock) {
    if (serving() > most_threads_) {
        if (next_to_run() != nullptr)
            work_.notify_one();
        return nullptr;
    }
    ++idle_;
    work_.wait_for(lock, idle_time, [&] { return next_to_run() != nullptr || closing_; });
    --idle_;
    return next_to_run();
}

// f runs in a scope that the caller's token cancels, and that never absorbs: a `cancelled` goes
// to the caller, as any error, and on to the scope there that it is for. It has the caller's signal
// mask, because a child process that it starts inherits that, however it is started.
void blocking_pool::carry_out(blocking_job& job, const caller_view& view) noexcept {
    cancel_scope scope;
    try {
        scope_access::bind(scope, view.token);
        scope_access::enter(scope, duration{});
    } catch (...) {
        job.error = std::current_exception();
        return;
    }
    thread_parker& me = this_thread_parker();
    std::swap(me.locals, job.locals);
    me.caller_deadline = view.deadline;
    here = {&scope, &view.token, view.debug ? debugged_call{&job, view.party} : debugged_call{}};
    ::pthread_sigmask(SIG_SETMASK, &view.signals, nullptr);
    run_here(job);
    const sigset_t idle = helper_signals();
    ::pthread_sigmask(SIG_SETMASK, &idle, nullptr);
    here = {};
    me.caller_deadline = time_point::max();
    std::swap(me.locals, job.locals);
    scope_access::leave(scope);
}

void blocking_pool::run_here(blocking_job& job) noexcept {
    try {
        job.call(job);
    } catch (...) {
        job.error = std::current_exception();
    }
}

// ---- for people ---------------------------------------------------------------------------------

void blocking_pool::name_abandoned(const scheduler& home) noexcept {
    const std::lock_guard lock{mutex_};
    for (const blocking_job* job = abandoned_.first; job != nullptr; job = job->next)
        if (job->home == &home)
            name_abandoned_call(*job);
}

std::size_t blocking_pool::threads() {
    const std::lock_guard lock{mutex_};
    return threads_;
}

std::size_t blocking_pool::queued() {
    const std::lock_guard lock{mutex_};
    return line_.size + leavable_line_.size;
}

namespace {
// Fails only without memory, as the program starts.
[[maybe_unused]] const int sees_forks =
    ::pthread_atfork(nullptr, nullptr, &blocking_pool::renew_after_fork);
} // namespace

} // namespace detail
} // namespace creel
