// A value that comes once, and the callers that wait for it: a promise<T> gives the value, a
// future<T> waits for it. A future may be copied, and any number of fibers and threads may wait.
//
//     sync::promise<config> loaded;
//     n.spawn([f = loaded.get_future()] { use(f.get()); });
//     loaded.set_value(load());
//
// A promise that is destroyed before it has a value or an exception is broken: get() throws
// std::future_error. If several parties may keep a promise and the first should win, each calls
// try_set(). T may be void or a reference.
// For the result of one child, task<R> (nursery::async) is cheaper, and part of the nursery.
#pragma once

#include <creel/sync/detail/future_state.hpp>

#include <concepts>
#include <exception>
#include <future>
#include <memory>
#include <source_location>
#include <type_traits>
#include <utility>

namespace creel::sync {

template <typename T>
class promise;

template <typename T>
class future {
    using state = detail::future_state<T>;

public:
    using value_type = T;

    // A future without a promise: valid() is false; all other calls throw
    // std::future_error(no_state).
    future() noexcept = default;

    [[nodiscard]] bool valid() const noexcept { return state_ != nullptr; }

    // True when get() need not wait. Parks: never. Threads: any.
    [[nodiscard]] bool ready() const { return required().ready(); }

    // Parks: until there is a value or an exception. Cancel: yes. Threads: any. Throws: cancelled.
    // Cost: the primitive's lock when the value is there.
    void wait() const { required().wait(); }

    // The value. All futures of the promise share it; it lives as long as any of them.
    // Parks, Cancel, Threads: as wait(). Throws: cancelled; the promise's exception;
    // std::future_error if the promise is broken, or std::bad_alloc if there is no memory for that
    // exception. Cost: as wait().
    std::conditional_t<std::is_void_v<T>, void, std::add_lvalue_reference_t<const T>> get() const {
        required().wait();
        if constexpr (std::is_void_v<T>)
            state_->throw_error();
        else
            return state_->value();
    }

    // Counts the waiters of all futures of the promise. Parks: never. Threads: any.
    [[nodiscard]] future_statistics statistics() const { return required().statistics(); }

    // For code that knows only std::future; it gets a copy of the value.
    // Parks: never. Threads: any. Throws: std::bad_alloc.
    [[nodiscard]] std::future<T> to_std() const {
        auto& from = required();
        auto link = std::make_unique<detail::std_link<T>>(from);
        auto result = link->target.get_future();
        from.when_ready(std::move(link));
        return result;
    }

private:
    friend class promise<T>;
    friend struct detail::future_access;
    explicit future(std::shared_ptr<state> s) noexcept : state_(std::move(s)) {}

    [[nodiscard]] state& required() const {
        if (state_ == nullptr)
            detail::throw_no_state();
        return *state_;
    }

    std::shared_ptr<state> state_;
};

template <typename T>
class promise {
public:
    // Throws: std::bad_alloc; the state is the only allocation.
    explicit promise(std::source_location made_at = std::source_location::current())
        : state_(std::make_shared<detail::future_state<T>>(made_at)) {}
    promise(promise&& other) noexcept = default;
    promise& operator=(promise&& other) noexcept {
        promise incoming{std::move(other)}; // first, because `other` may be this promise
        std::swap(state_, incoming.state_); // the old promise is broken if it was not kept
        return *this;
    }
    ~promise() {
        if (state_ != nullptr)
            state_->abandon();
    }

    // May be called any number of times; all futures are equal.
    [[nodiscard]] future<T> get_future() const { return future<T>{required()}; }

    // Gives the value or the exception; all waiters go on.
    // Parks: never. Threads: any. Throws: std::future_error if the promise was kept already; the
    // error of constructing the value, and the promise stays open.
    template <typename... Args>
        requires detail::makes_value<T, Args...>
    void set_value(Args&&... args) {
        if (!required()->try_set(std::forward<Args>(args)...))
            detail::throw_already_set();
    }
    void set_exception(std::exception_ptr error) {
        if (!required()->try_set_exception(std::move(error)))
            detail::throw_already_set();
    }

    // The same if several parties may keep the promise: false if another has kept it, or is just
    // keeping it. A std::exception_ptr is the exception (for a promise of exception_ptr, the
    // value); any other argument makes the value. An argument that comes too late is not moved
    // from, unless both parties came in the same instant.
    // Parks: never. Threads: any. Throws: the error of constructing the value, and the promise
    // stays open.
    template <typename... Args>
        requires detail::makes_value<T, Args...>
    bool try_set(Args&&... args) {
        return required()->try_set(std::forward<Args>(args)...);
    }
    bool try_set(std::exception_ptr error)
        requires(!std::same_as<T, std::exception_ptr>)
    {
        return required()->try_set_exception(std::move(error));
    }

private:
    // A copy, because a waiter that is woken may destroy the promise.
    std::shared_ptr<detail::future_state<T>> required() const {
        if (state_ == nullptr)
            detail::throw_no_state();
        return state_;
    }

    std::shared_ptr<detail::future_state<T>> state_;
};

// The value that a std::future will give. A std::future cannot notify, so a thread of its own waits
// for it: use this for a few futures, at the border to other libraries. If the std::future is never
// kept, that thread never ends.
// Parks: never. Threads: any. Throws: std::system_error if no thread can be made. Cost: a thread.
template <typename T>
[[nodiscard]] future<T> from_std(std::future<T> from,
                                 std::source_location made_at = std::source_location::current()) {
    promise<T> to{made_at};
    future<T> result = to.get_future();
    detail::run_on_thread([from = std::move(from), to = std::move(to)]() mutable {
        try {
            if constexpr (std::is_void_v<T>) {
                from.get();
                to.set_value();
            } else {
                to.set_value(from.get());
            }
        } catch (...) {
            to.set_exception(std::current_exception());
        }
    });
    return result;
}

} // namespace creel::sync
