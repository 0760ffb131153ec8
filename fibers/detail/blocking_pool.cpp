#include <creel/fibers/detail/blocking_pool.hpp>

#include <creel/fibers/blocking.hpp>
#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/scheduler.hpp>
#include <creel/fibers/local.hpp>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <system_error>
#include <thread>
#include <utility>

#include <pthread.h>

namespace creel {

namespace {

// As many calls block at one time in the whole process; tokio allows 512, Python min(32, cores +
// 4).
constexpr std::size_t most_shared_threads = 64;

// A helper thread with nothing to do ends after this time.
constexpr std::chrono::seconds idle_time{10};

// The call that runs on this helper thread.
constinit thread_local detail::blocking_job* running_job = nullptr;

} // namespace

void check_cancelled() {
    if (running_job != nullptr && running_job->cancel_requested.load(std::memory_order_acquire))
        throw cancelled{running_job->reason};
    throw_if_cancelled();
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

namespace {

// Allocates nothing.
void name_abandoned_call(const blocking_job& job) noexcept {
    std::fprintf(stderr, "creel: the blocking call%s%s%s at %s:%u was abandoned and still runs\n",
                 job.name.empty() ? "" : " \"", job.name.c_str(), job.name.empty() ? "" : "\"",
                 job.where.file_name(), static_cast<unsigned>(job.where.line()));
}

// Of what is being handled: that no thread could be started.
[[noreturn]] void throw_without_thread(const blocking_job& job) {
    try {
        throw;
    } catch (const std::system_error& e) {
        throw std::system_error(e.code(), "the " + job.describe() +
                                              " needs a helper thread, and none can be started");
    }
}

} // namespace

struct blocking_pool::call_waiter : waiter {
    static withdrawal withdraw(waiter& w, wake_reason) noexcept {
        auto& self = static_cast<call_waiter&>(w);
        return self.pool->withdraw(self);
    }
    static void describe(const waiter& w, std::string& text) {
        text += "the " + static_cast<const call_waiter&>(w).job->describe();
    }
    static constexpr waiter_kind table{&withdraw, &describe};

    call_waiter(blocking_pool& p, blocking_job& j) noexcept
        : waiter(table), pool(&p), job(&j), parker_of_caller(&this_parker()) {}

    blocking_pool* pool;
    blocking_job* job; // not to be touched any more once `abandoned`
    parker* parker_of_caller;
    bool abandoned = false;
};

void blocking_pool::list::push(blocking_job& job) noexcept {
    job.previous = last;
    job.next = nullptr;
    (last != nullptr ? last->next : first) = &job;
    last = &job;
    ++size;
}

void blocking_pool::list::remove(blocking_job& job) noexcept {
    (job.previous != nullptr ? job.previous->next : first) = job.next;
    (job.next != nullptr ? job.next->previous : last) = job.previous;
    --size;
}

blocking_pool& blocking_pool::shared() {
    static auto* const pool = new blocking_pool{most_shared_threads};
    return *pool;
}

blocking_pool::~blocking_pool() {
    std::unique_lock lock{mutex_};
    closing_ = true;
    work_.notify_all();
    all_ended_.wait(lock, [&] { return threads_ == 0; });
}

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
    call_waiter w{*this, job};
    if (w.parker_of_caller->home == nullptr) { // a plain thread may block itself
        run_here(job);
        return true;
    }
    job.locals = share_locals(w.parker_of_caller->home->locals());
    enqueue(job, w);
    if (park(w) == wake_reason::signalled)
        return true;
    if (!w.abandoned)
        throw_cancelled();
    return false;
}

void blocking_pool::enqueue(blocking_job& job, waiter& caller) {
    const std::lock_guard lock{mutex_};
    job.caller = &caller;
    job.home = scheduler::current();
    queue_.push(job);
    if (idle_ >= queue_.size) {
        work_.notify_one();
    } else if (threads_ < most_threads_) {
        try {
            start_thread();
        } catch (...) {
            if (threads_ == 0) { // nobody would ever run it
                queue_.remove(job);
                throw_without_thread(job);
            }
        }
    }
}

// With the mutex held. The thread takes no signals: they are for the program's own.
void blocking_pool::start_thread() {
    sigset_t every;
    sigset_t before;
    sigfillset(&every);
    pthread_sigmask(SIG_SETMASK, &every, &before);
    try {
        std::thread{[this] { help(); }}.detach();
        ++threads_;
    } catch (...) {
        pthread_sigmask(SIG_SETMASK, &before, nullptr);
        throw;
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void blocking_pool::help() noexcept {
    pthread_setname_np(pthread_self(), "creel-blocking");
    std::unique_lock lock{mutex_};
    for (;;) {
        ++idle_;
        const bool woken =
            work_.wait_for(lock, idle_time, [&] { return queue_.first != nullptr || closing_; });
        --idle_;
        if (!woken || queue_.first == nullptr)
            break;
        blocking_job& job = *queue_.first;
        queue_.remove(job);
        job.state = blocking_job::state_type::running;
        lock.unlock();
        running_job = &job;
        std::swap(this_thread_parker().locals, job.locals);
        run_here(job);
        std::swap(this_thread_parker().locals, job.locals);
        running_job = nullptr;
        lock.lock();
        if (job.state == blocking_job::state_type::abandoned) {
            abandoned_.remove(job);
            lock.unlock();
            job.destroy(job);
        } else {
            // From here on a cancel of the caller finds his wake on the way, and he waits for it.
            job.state = blocking_job::state_type::done;
            waiter& caller = *job.caller;
            lock.unlock();
            wake(caller);
        }
        lock.lock();
    }
    if (--threads_ == 0)
        all_ended_.notify_all(); // with the lock held, for the pool may go as soon as it is free
}

void blocking_pool::run_here(blocking_job& job) noexcept {
    try {
        job.call(job);
    } catch (...) {
        job.error = std::current_exception();
    }
}

// The caller's thread. Under the mutex each call is in one state, so either the helper finds it
// abandoned, or the caller finds it done.
withdrawal blocking_pool::withdraw(call_waiter& w) noexcept {
    blocking_job& job = *w.job;
    const std::lock_guard lock{mutex_};
    switch (job.state) {
    case blocking_job::state_type::queued:
        queue_.remove(job);
        return withdrawal::withdrawn; // f has not run, and will not
    case blocking_job::state_type::running:
        if (const cancel_scope* s = scope_access::visible_cancel(*w.parker_of_caller))
            job.reason = scope_access::reason_of(*s);
        job.cancel_requested.store(true, std::memory_order_release);
        if (job.destroy == nullptr)
            return withdrawal::pending;
        job.state = blocking_job::state_type::abandoned;
        abandoned_.push(job);
        w.abandoned = true;
        return withdrawal::withdrawn;
    default:
        return withdrawal::pending;
    }
}

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
    return queue_.size;
}

} // namespace detail
} // namespace creel
