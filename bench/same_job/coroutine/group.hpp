#pragma once

// Children that run side by side and end before their parent goes on:
//
//     co_await with_group([&](group& g) -> task<> {
//         for (auto& part : parts)
//             g.spawn(fetch(part)); // runs until it waits for the first time
//         co_return;
//     });
//
// The first error of a child or of the body cancels all others; with_group() throws it when the
// last child has ended. With errors::stay_alone an error ends only its child.

#include "task.hpp"

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <utility>

namespace same_job::coroutine {

enum class errors : bool { cancel_all, stay_alone };

class group {
public:
    group(cancel_scope& parent, errors policy) noexcept : scope_(parent), policy_(policy) {}
    group(const group&) = delete;
    group& operator=(const group&) = delete;

    // Begins the child at once, on the caller's stack. A child of a cancelled group begins, and is
    // cancelled at its first wait.
    void spawn(task<> child) {
        const auto begun = child.release();
        begun.promise().parent = this;
        begun.promise().scope = &scope_;
        ++children_;
        begun.resume();
    }

    [[nodiscard]] cancel_scope& scope() noexcept { return scope_; }
    // Cancels the children and the body. What they then throw for it is no error.
    void cancel() noexcept {
        stopped_ = true;
        scope_.cancel();
    }

    // Called as the last act of a child. Returns what is to be resumed.
    std::coroutine_handle<>
    child_ended(std::coroutine_handle<task<>::promise_type> child) noexcept {
        if (child.promise().error && policy_ == errors::cancel_all)
            failed(std::move(child.promise().error), child.promise().cancelled);
        child.destroy();
        if (--children_ == 0 && joining_)
            return std::exchange(joining_, nullptr);
        return std::noop_coroutine();
    }

    void failed(std::exception_ptr error, bool cancelled) noexcept {
        if (cancelled && stopped_)
            return;
        if (!error_)
            error_ = std::move(error);
        scope_.cancel();
    }

    // Waits for the children; no cancel ends this wait, it ends theirs. Throws the first error.
    auto join() noexcept {
        struct awaiter {
            group& of;
            [[nodiscard]] bool await_ready() const noexcept { return of.children_ == 0; }
            void await_suspend(std::coroutine_handle<> joining) const noexcept {
                of.joining_ = joining;
            }
            void await_resume() const {
                if (of.error_)
                    std::rethrow_exception(of.error_);
            }
        };
        return awaiter{*this};
    }

private:
    cancel_scope scope_;
    std::coroutine_handle<> joining_ = nullptr;
    std::exception_ptr error_{};
    std::size_t children_ = 0;
    errors policy_;
    bool stopped_ = false;
};

inline std::coroutine_handle<> task_result<void>::at_end(std::coroutine_handle<> self) noexcept {
    if (parent == nullptr)
        return continuation;
    return parent->child_ended(
        std::coroutine_handle<task<>::promise_type>::from_address(self.address()));
}

// An error of the body always cancels the children.
template <class Body> // Body: task<>(group&)
task<> with_group(errors policy, Body body) {
    group children{co_await this_scope{}, policy};
    try {
        co_await std::invoke(body, children).in(children.scope());
    } catch (const operation_cancelled&) {
        children.failed(std::current_exception(), true);
    } catch (...) {
        children.failed(std::current_exception(), false);
    }
    co_await children.join();
}

template <class Body>
task<> with_group(Body body) {
    return with_group(errors::cancel_all, std::move(body));
}

// Runs them side by side, and ends when all have ended.
template <std::same_as<task<>>... Tasks>
task<> when_all(errors policy, Tasks... children) {
    group all{co_await this_scope{}, policy};
    (all.spawn(std::move(children)), ...);
    co_await all.join();
}

} // namespace same_job::coroutine
