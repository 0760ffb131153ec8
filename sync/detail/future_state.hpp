// The state that a promise and its futures share. Its stages:
//
//     open --1--> being_set --2--> ready
//       ^             |
//       +------3------+
//
//     1  begin(): one party alone may set the value or the exception. In any other stage begin()
//        returns false.
//     2  finish(): the value or the exception is there. All waiters and links are told. Final.
//     3  reopen(): the construction of the value has thrown.
//
// try_set(), try_set_exception() and abandon() each make 1 and 2.
#pragma once

#include <creel/fibers/wait_list.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <future>
#include <memory>
#include <optional>
#include <source_location>
#include <thread>
#include <type_traits>
#include <utility>

namespace creel::sync {

struct future_statistics {
    bool ready = false;
    std::size_t waiting = 0;
};

namespace detail {

struct future_access; // for select

[[noreturn]] void throw_no_state();
[[noreturn]] void throw_already_set();

// A party that does not wait: it is told on the thread that keeps the promise.
struct future_link {
    virtual ~future_link() = default;
    virtual void ready() noexcept = 0;
    std::unique_ptr<future_link> next{};
};

// The untyped half of a future_state.
class future_base {
public:
    explicit future_base(std::source_location made_at) noexcept : guard("future", made_at) {}

    [[nodiscard]] bool ready() const noexcept;
    [[nodiscard]] future_statistics statistics() const noexcept;
    void wait();
    [[nodiscard]] bool try_set_exception(std::exception_ptr error);
    void abandon() noexcept; // breaks the promise if it was not kept
    void when_ready(std::unique_ptr<future_link> link);
    [[nodiscard]] bool is_ready() const noexcept { return stage_ == stage::ready; } // lock held

    // Throws the exception if there is one. Only once it is ready.
    void throw_error() const {
        if (failed_) [[unlikely]]
            throw_failure();
    }

    mutable wait_lock guard;
    wait_list waiting{guard};

protected:
    ~future_base() = default;

    // Between begin() and finish() or reopen(), only the caller touches the value. False: it is
    // set, or another party is about to set it.
    [[nodiscard]] bool begin() noexcept;
    void finish() noexcept;
    void reopen() noexcept;
    [[nodiscard]] bool open() const noexcept;

private:
    enum class stage : std::uint8_t { open, being_set, ready };

    [[noreturn]] void throw_failure() const;

    stage stage_ = stage::open; // guarded by guard, as are links_ and error_
    bool failed_ = false;       // written before `ready`, and never again
    std::unique_ptr<future_link> links_{};
    // For a broken promise, null until a caller asks, because breaking a promise must need no
    // memory. All callers get the same exception.
    mutable std::exception_ptr error_{};
};

template <typename T>
class future_state final : public future_base {
public:
    using future_base::future_base;

    [[nodiscard]] const T& value() const {
        throw_error();
        return *value_;
    }
    // A caller that gets false must be able to rely on the other party. So a construction that may
    // throw comes before begin(), if T can then be moved in without throwing. (If it cannot, a call
    // that meets another's construction returns false although that construction may still throw.)
    template <typename... Args>
    [[nodiscard]] bool try_set(Args&&... args) {
        if constexpr (std::is_nothrow_constructible_v<T, Args...>) {
            if (!begin())
                return false;
            value_.emplace(std::forward<Args>(args)...);
        } else if constexpr (std::is_nothrow_move_constructible_v<T>) {
            if (!open())
                return false;
            T made(std::forward<Args>(args)...);
            if (!begin())
                return false;
            value_.emplace(std::move(made));
        } else {
            if (!begin())
                return false;
            try {
                value_.emplace(std::forward<Args>(args)...);
            } catch (...) {
                reopen();
                throw;
            }
        }
        finish();
        return true;
    }

private:
    std::optional<T> value_{}; // written before `ready`, and never again
};

template <>
class future_state<void> final : public future_base {
public:
    using future_base::future_base;
    [[nodiscard]] bool try_set() noexcept {
        if (!begin())
            return false;
        finish();
        return true;
    }
};

template <typename T>
class future_state<T&> final : public future_base {
public:
    using future_base::future_base;

    [[nodiscard]] T& value() const {
        throw_error();
        return *value_;
    }
    [[nodiscard]] bool try_set(T& to) noexcept {
        if (!begin())
            return false;
        value_ = std::addressof(to);
        finish();
        return true;
    }

private:
    T* value_ = nullptr; // written before `ready`, and never again
};

// Whether a promise<T> can make its value of these arguments.
template <typename T, typename... Args>
inline constexpr bool makes_value = std::is_constructible_v<T, Args...>;
template <typename T, typename... Args>
inline constexpr bool makes_value<T&, Args...> =
    sizeof...(Args) == 1 && (std::is_convertible_v<Args&&, T&> && ...);
template <typename... Args>
inline constexpr bool makes_value<void, Args...> = sizeof...(Args) == 0;

template <typename T>
struct std_link final : future_link {
    explicit std_link(future_state<T>& s) : from(&s) {} // std::promise allocates
    void ready() noexcept override {
        try {
            if constexpr (std::is_void_v<T>) {
                from->throw_error();
                target.set_value();
            } else {
                target.set_value(from->value());
            }
        } catch (...) {
            target.set_exception(std::current_exception());
        }
    }
    future_state<T>* from; // owns this link
    std::promise<T> target{};
};

template <typename F>
void run_on_thread(F&& f) {
    std::thread{std::forward<F>(f)}.detach();
}

} // namespace detail
} // namespace creel::sync
