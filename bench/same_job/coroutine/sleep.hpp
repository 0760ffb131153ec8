#pragma once

// Waits for a time, and waits that are bounded by one.
//
//     co_await sleep_for(10ms);
//     const auto n = co_await timeout(50ms, answer(peer)); // throws timed_out

#include "loop.hpp"

#include <chrono>
#include <exception>
#include <utility>

namespace same_job::coroutine {

class timed_out : public std::exception {
public:
    [[nodiscard]] const char* what() const noexcept override { return "timed out"; }
};

class sleep_until : timer, cancel_entry {
public:
    explicit sleep_until(clock::time_point when) noexcept
        : timer(&fire), cancel_entry(&cancel_this), when_(when) {}

    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <task_promise Promise>
    void await_suspend(std::coroutine_handle<Promise> waiting) {
        waiting.promise().scope->add(*this);
        waiting_ = waiting;
        loop::current().timers().arm(*this, when_);
    }
    void await_resume() const {
        if (cancelled_)
            throw operation_cancelled{};
    }

private:
    static void fire(timer& t) noexcept {
        auto& self = static_cast<sleep_until&>(t);
        self.unlink();
        loop::current().ready(self.waiting_);
    }
    static void cancel_this(cancel_entry& e) noexcept {
        auto& self = static_cast<sleep_until&>(e);
        loop::current().timers().disarm(self);
        self.cancelled_ = true;
        loop::current().ready(self.waiting_);
    }

    clock::time_point when_;
    std::coroutine_handle<> waiting_ = nullptr;
    bool cancelled_ = false;
};

inline sleep_until sleep_for(clock::duration time) noexcept {
    return sleep_until{clock::now() + time};
}

// The scope of a timeout, which lies in the frame of the coroutine that awaits it. The deadline
// cancels it; a result that came before counts.
template <class T>
class timeout : timer {
public:
    timeout(clock::duration time, task<T> work)
        : timer(&fire), deadline_(clock::now() + time), work_(std::move(work)) {}
    timeout(const timeout&) = delete;
    timeout& operator=(const timeout&) = delete;
    ~timeout() { loop::current().timers().disarm(*this); }

    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <task_promise Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> waiting) {
        scope_.enter(*waiting.promise().scope);
        loop::current().timers().arm(*this, deadline_);
        return awaiter_.await_suspend(waiting);
    }
    T await_resume() {
        loop::current().timers().disarm(*this);
        if (expired_ && awaiter_.cancelled())
            throw timed_out{};
        return awaiter_.await_resume();
    }

private:
    static void fire(timer& t) noexcept {
        auto& self = static_cast<timeout&>(t);
        self.expired_ = !self.scope_.cancelled(); // the outer scope may have been first
        self.scope_.cancel();
    }

    clock::time_point deadline_;
    task<T> work_;
    cancel_scope scope_{};
    typename task<T>::awaiter awaiter_ = std::move(work_).in(scope_);
    bool expired_ = false;
};

} // namespace same_job::coroutine
