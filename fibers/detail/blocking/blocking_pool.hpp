// The helper threads of blocking(), and the line of calls that wait for one.
#pragma once

#include <creel/fibers/detail/blocking/helper_thread.hpp>
#include <creel/fibers/waiter.hpp>

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <source_location>
#include <string>
#include <string_view>

namespace creel {
class cancel_scope;
class cancel_token;
} // namespace creel

namespace creel::detail {

class scheduler;
struct local_binding;

// One call of blocking(). On the caller's stack; on the heap if it may be abandoned.
struct blocking_job {
    // queued -> running     a helper takes the first of the line
    // queued -> gone        its caller is cancelled, or there is no thread for it
    // queued -> sent_back   its caller is woken to see to a thread, and queues it again
    // running -> done       f has ended; the caller is woken
    // running -> abandoned  its caller is cancelled, and goes on; the helper destroys it
    enum class state_type : unsigned char { queued, gone, sent_back, running, done, abandoned };

    blocking_job(std::string_view called, std::source_location from, void (*what)(blocking_job&))
        : call(what), name(called), where(from) {}
    ~blocking_job();
    blocking_job(const blocking_job&) = delete;
    blocking_job& operator=(const blocking_job&) = delete;

    [[nodiscard]] std::string describe() const;
    [[nodiscard]] bool may_be_abandoned() const noexcept { return destroy != nullptr; }

    void (*call)(blocking_job&);                       // f; may throw
    void (*destroy)(blocking_job&) noexcept = nullptr; // set if it may be abandoned
    std::exception_ptr error{};                        // written by the helper before `done`
    const std::string name;
    const std::source_location where;

    // What the caller saw; ours to hold, and the helper's to use while it runs the call.
    local_binding* locals = nullptr;

    // Guarded by the pool's mutex.
    state_type state = state_type::queued;
    waiter* caller = nullptr; // a blocking_pool::call_waiter, until `done` or `abandoned`
    scheduler* home = nullptr;
    std::uint64_t ticket = 0;         // its place among all that queue
    blocking_job* previous = nullptr; // in the line, or among the abandoned
    blocking_job* next = nullptr;
};

// For debug mode, on a helper thread that runs a call: the task or fiber that waits for it, and the
// call. Null and 0 elsewhere, and if that one's run is not in debug mode. Threads: any.
struct debugged_call {
    const blocking_job* job = nullptr;
    party_number caller = 0;
};
[[nodiscard]] debugged_call this_debugged_call() noexcept;

// The token of the caller, if `scope` is that of a call that runs on this thread; else null. What f
// is told by it, and does with it, is what the caller would be and do in the place of f.
[[nodiscard]] const cancel_token* token_of_caller(const cancel_scope& scope) noexcept;

// Threads: any.
class blocking_pool {
public:
    // At most `most_threads` helpers serve the line. Those whose call was abandoned do not count:
    // of calls that were or may be abandoned, at most `most_abandoned` run at one time, and others
    // of their kind stay in line.
    explicit blocking_pool(std::size_t most_threads, std::size_t most_abandoned = 256,
                           int (*start)(void* (*)(void*),
                                        void*) noexcept = &start_helper_thread) noexcept
        : most_threads_(most_threads), most_abandoned_(most_abandoned), start_(start) {}
    // Waits for all helper threads, and so for all calls.
    ~blocking_pool();
    blocking_pool(const blocking_pool&) = delete;
    blocking_pool& operator=(const blocking_pool&) = delete;

    // That of the process; in a forked child it is a new one, without threads. Never destroyed: at
    // exit its threads may be anywhere. Throws: std::bad_alloc.
    static blocking_pool& shared();
    // For pthread_atfork: in the child.
    static void renew_after_fork() noexcept;

    // Parks until the call has ended. Throws: cancelled; std::system_error; std::bad_alloc.
    void run(blocking_job& job);
    // The same; false if the caller was cancelled while the call ran: it belongs to its thread now,
    // which destroys it in the end.
    [[nodiscard]] bool run_or_abandon(blocking_job& job, void (*destroy)(blocking_job&) noexcept);

    // One line on stderr for each abandoned call of this scheduler that still runs.
    void name_abandoned(const scheduler& home) noexcept;

    // Helper threads now; calls in line.
    [[nodiscard]] std::size_t threads();
    [[nodiscard]] std::size_t queued();

private:
    struct list {
        void push(blocking_job& job) noexcept;
        void push_front(blocking_job& job) noexcept;
        void remove(blocking_job& job) noexcept;
        blocking_job* first = nullptr;
        blocking_job* last = nullptr;
        std::size_t size = 0;
    };
    struct caller_view;
    struct call_waiter;

    bool run_queued(blocking_job& job);
    void carry_out(blocking_job& job, const caller_view& view) noexcept;
    static void run_here(blocking_job& job) noexcept;
    withdrawal withdraw(call_waiter& w) noexcept;
    void retry(call_waiter& w) noexcept;
    void help() noexcept; // the body of a helper thread

    // All with the mutex held.
    [[nodiscard]] list& line_of(const blocking_job& job) noexcept {
        return job.may_be_abandoned() ? leavable_line_ : line_;
    }
    [[nodiscard]] std::size_t serving() const noexcept { return threads_ - abandoned_.size; }
    [[nodiscard]] blocking_job* next_to_run() const noexcept;
    [[nodiscard]] std::size_t ready_to_run() const noexcept;
    void enqueue(blocking_job& job, call_waiter& caller);
    [[nodiscard]] int see_to_thread() noexcept;
    void send_back(blocking_job& job) noexcept;
    [[nodiscard]] blocking_job* wait_for_call(std::unique_lock<std::mutex>& lock);

    const std::size_t most_threads_;
    const std::size_t most_abandoned_;
    int (*const start_)(void* (*)(void*), void*) noexcept;
    std::mutex mutex_; // guards all below
    std::condition_variable work_;
    std::condition_variable all_ended_;
    list line_;          // calls that are awaited in any case
    list leavable_line_; // calls that may be abandoned
    list abandoned_;
    std::uint64_t next_ticket_ = 0;
    std::size_t leavable_ = 0; // calls that run and may be abandoned, or were
    std::size_t threads_ = 0;
    std::size_t idle_ = 0;
    bool closing_ = false;
};

} // namespace creel::detail
