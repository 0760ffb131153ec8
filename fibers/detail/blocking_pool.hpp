// The helper threads of blocking(), and the line of calls that wait for one.
#pragma once

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <exception>
#include <memory>
#include <mutex>
#include <source_location>
#include <string>
#include <string_view>

namespace creel::detail {

class scheduler;
struct local_binding;

// One call of blocking(). On the caller's stack; on the heap if it may be abandoned.
struct blocking_job {
    // queued, running and done follow each other; a cancel takes it out of the queue, or abandons
    // it while it runs.
    enum class state_type : unsigned char { queued, running, done, abandoned };

    blocking_job(std::string_view called, std::source_location from, void (*what)(blocking_job&))
        : call(what), name(called), where(from) {}
    ~blocking_job();
    blocking_job(const blocking_job&) = delete;
    blocking_job& operator=(const blocking_job&) = delete;

    [[nodiscard]] std::string describe() const;

    void (*call)(blocking_job&);                       // f; may throw
    void (*destroy)(blocking_job&) noexcept = nullptr; // set if it may be abandoned
    std::exception_ptr error{};                        // written by the helper before `done`
    const std::string name;
    const std::source_location where;

    // Set once, by the caller's thread, before cancel_requested (release, with the load in
    // check_cancelled); read by the helper.
    std::shared_ptr<const cancel_reason> reason{};
    std::atomic<bool> cancel_requested{false};

    // What the caller saw; ours to hold, and the helper's to use while it runs the call.
    local_binding* locals = nullptr;

    // Guarded by the pool's mutex.
    state_type state = state_type::queued;
    waiter* caller = nullptr;
    scheduler* home = nullptr;
    blocking_job* previous = nullptr; // in the queue, or among the abandoned
    blocking_job* next = nullptr;
};

// Threads: any.
class blocking_pool {
public:
    explicit blocking_pool(std::size_t most_threads) noexcept : most_threads_(most_threads) {}
    // Waits for all helper threads, and so for all calls.
    ~blocking_pool();
    blocking_pool(const blocking_pool&) = delete;
    blocking_pool& operator=(const blocking_pool&) = delete;

    // That of the process. Never destroyed: at exit its threads may be anywhere.
    static blocking_pool& shared();

    // Parks until the call has ended. Throws: cancelled; std::system_error.
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
        void remove(blocking_job& job) noexcept;
        blocking_job* first = nullptr;
        blocking_job* last = nullptr;
        std::size_t size = 0;
    };
    struct call_waiter;

    bool run_queued(blocking_job& job);
    void enqueue(blocking_job& job, waiter& caller);
    void start_thread();
    void help() noexcept; // the body of a helper thread
    static void run_here(blocking_job& job) noexcept;
    withdrawal withdraw(call_waiter& w) noexcept;

    const std::size_t most_threads_;
    std::mutex mutex_; // guards all below
    std::condition_variable work_;
    std::condition_variable all_ended_;
    list queue_;
    list abandoned_;
    std::size_t threads_ = 0;
    std::size_t idle_ = 0;
    bool closing_ = false;
};

} // namespace creel::detail
