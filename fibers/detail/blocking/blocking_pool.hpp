// The helper threads of blocking(), and the line of calls that wait for them.
//
// blocking_call.hpp has the states of a call. The states of a helper thread:
//
//                    +------3-------+
//                    v              |
//     (start) --1--> idle --2--> serving --4--> left behind
//                    |  ^                          |
//       (ended) <--6-+  +-------------5------------+
//
//   1  ensure_thread()   a call is in line, no helper thread is idle for it, and fewer than
//                        `most_threads` serve
//   2  take()            the thread takes the next call
//   3  finish()          f has ended
//   4  withdraw()        the caller has abandoned the call: the thread does not count as serving,
//                        and ensure_thread() may replace it
//   5  finish()          the abandoned f has ended
//   6  wait_for_call()   ten seconds have passed without a call, the pool closes, or the thread was
//                        left behind and has been replaced
#pragma once

#include <creel/fibers/detail/blocking/blocking_call.hpp>
#include <creel/fibers/detail/blocking/helper_thread.hpp>
#include <creel/fibers/waiter.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>

namespace creel::detail {

class scheduler;
struct call_waiter;
struct caller_view;

// Threads: any.
class blocking_pool {
public:
    // At most `most_threads` helper threads serve the line. A thread that was left behind with an
    // abandoned call does not count. Of the calls that may be abandoned, at most `most_abandoned`
    // run at one time, abandoned or not; further such calls stay in line.
    explicit blocking_pool(std::size_t most_threads, std::size_t most_abandoned = 256,
                           int (*start)(void* (*)(void*),
                                        void*) noexcept = &start_helper_thread) noexcept
        : most_threads_(most_threads), most_abandoned_(most_abandoned), start_(start) {}
    // Waits until all helper threads, and so all calls, have ended.
    ~blocking_pool();
    blocking_pool(const blocking_pool&) = delete;
    blocking_pool& operator=(const blocking_pool&) = delete;

    // The pool of the process; a forked child has a new one, without threads. Never destroyed: at
    // exit its threads may be anywhere. Throws: std::bad_alloc.
    static blocking_pool& shared();
    // For pthread_atfork, in the child.
    static void renew_after_fork() noexcept;

    // Runs the call.
    // Parks: until the call has ended. Throws: cancelled; std::system_error; std::bad_alloc.
    void run(blocking_call& call);
    // The same. False if the caller was cancelled while f ran: then the call belongs to its helper
    // thread, which destroys it after f.
    [[nodiscard]] bool run_or_abandon(blocking_call& call,
                                      void (*destroy)(blocking_call&) noexcept);

    // Writes one line to stderr for each abandoned call of this scheduler that still runs.
    void name_abandoned(const scheduler& home) noexcept;

    // True if a call is in line or runs, even one that was abandoned.
    [[nodiscard]] bool has_calls();

    // The number of helper threads now, and of calls in line.
    [[nodiscard]] std::size_t threads();
    [[nodiscard]] std::size_t queued();

private:
    friend struct call_waiter;

    // The caller's side: call_waiter.cpp.
    bool run_queued(blocking_call& call);
    void enqueue(blocking_call& call, call_waiter& caller);
    withdrawal withdraw(call_waiter& w) noexcept;
    void retry(call_waiter& w) noexcept;
    void send_back(blocking_call& call) noexcept; // with the mutex held

    // The helper thread's side.
    void help() noexcept; // the body of a helper thread
    [[nodiscard]] blocking_call* wait_for_call(std::unique_lock<std::mutex>& lock);
    [[nodiscard]] caller_view take(blocking_call& call) noexcept; // with the mutex held
    void finish(blocking_call& call, bool in_debug_mode) noexcept;

    // The line, with the mutex held.
    [[nodiscard]] call_list& line_of(const blocking_call& call) noexcept {
        return call.may_be_abandoned() ? abandonable_line_ : line_;
    }
    [[nodiscard]] std::size_t serving() const noexcept { return threads_ - abandoned_.size; }
    [[nodiscard]] blocking_call* next_to_run() const noexcept;
    [[nodiscard]] std::size_t ready_to_run() const noexcept;
    [[nodiscard]] int ensure_thread() noexcept;

    const std::size_t most_threads_;
    const std::size_t most_abandoned_;
    int (*const start_)(void* (*)(void*), void*) noexcept;
    std::mutex mutex_; // guards all below
    std::condition_variable work_;
    std::condition_variable all_ended_;
    call_list line_;             // calls whose callers wait for f in any case
    call_list abandonable_line_; // calls that may be abandoned
    call_list abandoned_;        // abandoned calls that still run
    std::uint64_t next_ticket_ = 0;
    std::size_t abandonable_running_ = 0; // running calls that may be, or were, abandoned
    std::size_t threads_ = 0;
    std::size_t idle_ = 0;
    bool closing_ = false;
};

} // namespace creel::detail
