#pragma once

// A coroutine with a result, which begins when it is awaited:
//
//     task<std::size_t> copy(stream& from, stream& to) {
//         std::array<std::byte, 4096> buffer;
//         const std::size_t n = co_await from.recv(buffer);
//         co_await to.send_all(std::span{buffer}.first(n));
//         co_return n;
//     }
//
// Caller and called coroutine resume each other by symmetric transfer (P0913), so a chain of awaits
// needs no stack. A task is awaited once; await it, or give it to a group or to run().

#include "cancel.hpp"
#include "frame_pool.hpp"

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cxxabi.h>
#include <exception>
#include <optional>
#include <typeinfo>
#include <utility>

namespace same_job::coroutine {

class group;

struct promise_base {
    static void* operator new(std::size_t bytes) { return frame_pool::allocate(bytes); }
    static void operator delete(void* memory, std::size_t bytes) noexcept {
        frame_pool::deallocate(memory, bytes);
    }

    struct final_awaiter {
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        template <class Promise>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> self) const noexcept {
            return self.promise().at_end(self);
        }
        void await_resume() const noexcept {}
    };

    [[nodiscard]] std::suspend_always initial_suspend() const noexcept { return {}; }
    [[nodiscard]] final_awaiter final_suspend() const noexcept { return {}; }
    void unhandled_exception() noexcept {
        error = std::current_exception();
        cancelled = *abi::__cxa_current_exception_type() == typeid(operation_cancelled);
    }
    [[nodiscard]] std::coroutine_handle<> at_end(std::coroutine_handle<>) const noexcept {
        return continuation;
    }

    void check_error() const {
        if (error)
            std::rethrow_exception(error);
    }

    std::coroutine_handle<> continuation = std::noop_coroutine();
    cancel_scope* scope = nullptr;
    std::exception_ptr error{};
    bool cancelled = false; // the error is operation_cancelled
};

// The promises of tasks. An await of this library takes the scope from the promise.
template <class Promise>
concept task_promise = std::derived_from<Promise, promise_base>;

template <class T>
struct task_result : promise_base {
    template <class V>
    void return_value(V&& value) {
        result.emplace(std::forward<V>(value));
    }
    T take() {
        check_error();
        return std::move(*result);
    }
    std::optional<T> result{};
};

template <>
struct task_result<void> : promise_base {
    void return_void() const noexcept {}
    void take() const { check_error(); }
    // The child of a group has no coroutine that awaits it.
    [[nodiscard]] inline std::coroutine_handle<> at_end(std::coroutine_handle<> self) noexcept;

    group* parent = nullptr;
};

template <class T = void>
class [[nodiscard]] task {
public:
    struct promise_type : task_result<T> {
        task get_return_object() noexcept {
            return task{std::coroutine_handle<promise_type>::from_promise(*this)};
        }
    };
    using handle = std::coroutine_handle<promise_type>;

    task(task&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    task& operator=(task&&) = delete;
    ~task() {
        if (handle_)
            handle_.destroy();
    }

    class awaiter {
    public:
        awaiter(handle called, cancel_scope* scope) noexcept : called_(called), scope_(scope) {}
        [[nodiscard]] bool await_ready() const noexcept { return false; }
        template <task_promise Caller>
        std::coroutine_handle<> await_suspend(std::coroutine_handle<Caller> caller) const noexcept {
            called_.promise().continuation = caller;
            called_.promise().scope = scope_ != nullptr ? scope_ : caller.promise().scope;
            return called_;
        }
        T await_resume() const { return called_.promise().take(); }
        // It has ended with operation_cancelled.
        [[nodiscard]] bool cancelled() const noexcept { return called_.promise().cancelled; }

    private:
        handle called_;
        cancel_scope* scope_;
    };
    [[nodiscard]] awaiter operator co_await() && noexcept { return awaiter{handle_, nullptr}; }
    // co_await std::move(t).in(scope): it runs in this scope and not in the caller's.
    [[nodiscard]] awaiter in(cancel_scope& scope) && noexcept { return awaiter{handle_, &scope}; }

    // For what begins it without an await. It keeps the frame.
    [[nodiscard]] handle start(cancel_scope& scope) const {
        handle_.promise().scope = &scope;
        handle_.resume();
        return handle_;
    }
    // For a group, which takes the frame over.
    [[nodiscard]] handle release() noexcept { return std::exchange(handle_, nullptr); }

private:
    explicit task(handle h) noexcept : handle_(h) {}
    handle handle_;
};

// co_await this_scope() gives the scope of the coroutine that runs. It does not suspend.
class this_scope {
public:
    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <task_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        scope_ = self.promise().scope;
        return false;
    }
    [[nodiscard]] cancel_scope& await_resume() const noexcept { return *scope_; }

private:
    cancel_scope* scope_ = nullptr;
};

} // namespace same_job::coroutine

#include "group.hpp" // a task that ends tells its group
