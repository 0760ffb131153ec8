#pragma once

// The least that a C++20 coroutine can be: the control that shows the cost of a stackless
// coroutine. It has no scheduler, no result and no error. The code that resumes it decides which
// one runs.

#include <coroutine>
#include <exception>
#include <utility>

namespace creel::bench {

class coroutine {
public:
    struct promise_type {
        coroutine get_return_object() {
            return coroutine{std::coroutine_handle<promise_type>::from_promise(*this)};
        }
        [[nodiscard]] std::suspend_always initial_suspend() const noexcept { return {}; }
        [[nodiscard]] std::suspend_always final_suspend() const noexcept { return {}; }
        void return_void() const noexcept {}
        [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
    };

    coroutine() = default;
    coroutine(coroutine&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    coroutine& operator=(coroutine&& other) noexcept {
        std::swap(handle_, other.handle_);
        return *this;
    }
    ~coroutine() { destroy(); }

    // Runs it until it suspends or ends.
    void resume() const { handle_.resume(); }

    void destroy() {
        if (handle_)
            std::exchange(handle_, nullptr).destroy();
    }

private:
    explicit coroutine(std::coroutine_handle<> handle) : handle_(handle) {}

    std::coroutine_handle<> handle_;
};

} // namespace creel::bench
