#include <creel/fibers/detail/blocking/blocking_pool.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/blocking/call_waiter.hpp>
#include <creel/fibers/detail/blocking/running_call.hpp>
#include <creel/fibers/detail/report/backtrace_text.hpp>
#include <creel/fibers/detail/report/known_throws.hpp>
#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/exception_group.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <new>
#include <string>
#include <utility>

#include <pthread.h>

namespace creel::detail {

namespace {

// So many calls are served at one time in the whole process. tokio allows 512 threads, Python
// min(32, cores + 4).
constexpr std::size_t most_shared_threads = 64;

// A helper thread with nothing to do ends after this time.
constexpr std::chrono::seconds idle_time{10};

constinit std::atomic<blocking_pool*> shared_pool{nullptr};
constinit std::atomic<unsigned> forks{0}; // between the program's start and this process

// Allocates nothing.
void name_abandoned_call(const blocking_call& call) noexcept {
    std::fprintf(stderr, "creel: the blocking call%s%s%s at %s:%u was abandoned and still runs\n",
                 call.name.empty() ? "" : " \"", call.name.c_str(), call.name.empty() ? "" : "\"",
                 call.where.file_name(), static_cast<unsigned>(call.where.line()));
}

// An abandoned f that throws `cancelled` has only seen the cancel that its caller has seen.
void name_dropped_error(const blocking_call& call) noexcept {
    try {
        std::rethrow_exception(call.error);
    } catch (const cancelled&) {
        return;
    } catch (...) {
    }
    try {
        std::string place = text_of_backtrace(throw_of(call.error), "creel:     ");
        if (!place.empty())
            place.insert(0, "creel:   thrown at\n");
        std::fprintf(
            stderr,
            "creel: debug: the abandoned %s failed, and its error is dropped: %s; catch it "
            "inside the call\n%s",
            escaped(call.describe()).c_str(), escaped(describe_exception(call.error)).c_str(),
            place.c_str());
    } catch (const std::bad_alloc&) { // a hint less
    }
}

} // namespace

// A static object of this function would have the compiler's guard. In a forked child another
// thread might hold that guard for ever.
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

// The child has only the thread that forked. Threads that do not exist there may hold the pool's
// mutex, may have left its lists half linked, and wait in its condition variables. So nothing of
// the pool is read or destroyed: a new pool takes its place. If the thread is a helper thread in
// the middle of a call, f may exec, _exit, or have a run of its own, but not return: see help().
void blocking_pool::renew_after_fork() noexcept {
    forks.fetch_add(1, std::memory_order_relaxed); // there is one thread
    if (blocking_pool* pool = shared_pool.load(std::memory_order_relaxed))
        ::new (static_cast<void*>(pool)) blocking_pool{most_shared_threads};
    forget_caller_after_fork();
}

blocking_pool::~blocking_pool() {
    std::unique_lock lock{mutex_};
    closing_ = true;
    work_.notify_all();
    all_ended_.wait(lock, [&] { return threads_ == 0; });
}

void blocking_pool::name_abandoned(const scheduler& home) noexcept {
    const std::lock_guard lock{mutex_};
    for (const blocking_call* call = abandoned_.first; call != nullptr; call = call->next)
        if (call->home == &home)
            name_abandoned_call(*call);
}

bool blocking_pool::has_calls() {
    const std::lock_guard lock{mutex_};
    return threads_ != idle_ || line_.size + abandonable_line_.size != 0;
}

std::size_t blocking_pool::threads() {
    const std::lock_guard lock{mutex_};
    return threads_;
}

std::size_t blocking_pool::queued() {
    const std::lock_guard lock{mutex_};
    return line_.size + abandonable_line_.size;
}

void blocking_pool::help() noexcept {
    ::pthread_setname_np(::pthread_self(), "creel-blocking");
    leave_pinned_core();
    const unsigned process = forks.load(std::memory_order_relaxed);
    std::unique_lock lock{mutex_};
    while (blocking_call* const call = wait_for_call(lock)) {
        const bool is_abandonable = call->may_be_abandoned(); // finish() may destroy the call
        bool in_debug_mode = false;
        {
            const caller_view caller = take(*call);
            lock.unlock();
            run_as_caller(*call, caller);
            in_debug_mode = caller.debug;
        }
        CREEL_ASSERT(process == forks.load(std::memory_order_relaxed),
                     "the function given to blocking() has forked, and returns in the child, where "
                     "no caller waits for it: call exec or _exit there");
        finish(*call, in_debug_mode);
        lock.lock();
        abandonable_running_ -= is_abandonable ? 1 : 0;
    }
    if (--threads_ == 0)
        all_ended_.notify_all(); // with the lock held: the pool may be destroyed once it is free
}

// Null: the thread has nothing to do any more, or it was replaced while its call was abandoned.
blocking_call* blocking_pool::wait_for_call(std::unique_lock<std::mutex>& lock) {
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

// Transition 3 of the call.
caller_view blocking_pool::take(blocking_call& call) noexcept {
    line_of(call).remove(call);
    call.state = blocking_call::state_type::running;
    abandonable_running_ += call.may_be_abandoned() ? 1 : 0;
    return std::move(*call.caller->view);
}

// Transitions 6 and 8 of the call.
void blocking_pool::finish(blocking_call& call, bool in_debug_mode) noexcept {
    std::unique_lock lock{mutex_};
    if (call.state == blocking_call::state_type::abandoned) {
        abandoned_.remove(call);
        lock.unlock();
        if (in_debug_mode && call.error != nullptr)
            name_dropped_error(call);
        call.destroy(call);
        return;
    }
    // From here on, a cancel of the caller finds that the wake is on its way, and waits for it.
    call.state = blocking_call::state_type::done;
    call_waiter& caller = *call.caller;
    lock.unlock();
    wake(caller);
}

// First come, first served. But while too many calls that may be abandoned run, the others of that
// kind are passed over.
blocking_call* blocking_pool::next_to_run() const noexcept {
    blocking_call* const abandonable =
        abandonable_running_ < most_abandoned_ ? abandonable_line_.first : nullptr;
    if (abandonable == nullptr || line_.first == nullptr)
        return abandonable != nullptr ? abandonable : line_.first;
    return abandonable->ticket < line_.first->ticket ? abandonable : line_.first;
}

std::size_t blocking_pool::ready_to_run() const noexcept {
    return line_.size + std::min(abandonable_line_.size,
                                 most_abandoned_ - std::min(abandonable_running_, most_abandoned_));
}

// Wakes or starts a helper thread if one is wanted: after a call has come to the line, or after a
// thread has left those that serve it. Returns an error number if a thread is wanted and cannot be
// started.
int blocking_pool::ensure_thread() noexcept {
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

namespace {
// Fails only without memory, as the program starts.
[[maybe_unused]] const int renews_after_fork =
    ::pthread_atfork(nullptr, nullptr, &blocking_pool::renew_after_fork);
} // namespace

} // namespace creel::detail
