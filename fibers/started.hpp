// started<T>: a child of nursery::start() calls its set() when it is ready to serve.
//
//     const auto address = n.start<io::endpoint>([&](creel::started<io::endpoint>& ready) {
//         io::tcp_listener listener{io::endpoint{"127.0.0.1", 0}};
//         ready.set(listener.local_endpoint()); // start() returns it, and the child goes on
//         serve(listener);
//     });
//
// A program that calls such a function without start() makes a started<T> of its own (Trio's
// TASK_STATUS_IGNORED):
//
//     creel::started<io::endpoint> ready;
//     service(ready); // serves here until it ends; ready.value() is the value of set()
//
// The idea is Trio's nursery.start() and task_status.started().
//
// The states of a start, and the nursery whose child runs:
//
//              1              2                   3
//     begun ───────► waiting ───────► taken over ─────► returned
//                      │  │           (the target's)       ▲
//                      │  └──────────► set, not moved ─────┤ 4: the child ends under the caller
//                      │       2'      (the caller's)      │
//                      └───────────────────────────────────┘ 5: it throws
//     1   nursery::start() submits the child to pending_start::own, a nursery of the caller
//     2   started_state::set(): nursery_core::take_over() moves the child to the target, and wakes
//         pending_start::wait()
//     2'  the same, if the caller is cancelled already: the child stays, and no error comes of it
//     3   pending_start::wait() returns; ~pending_start() calls end_start(), which lets the target
//         end when the child has ended
//     4   the child ends: wait() returns the value, or throws what the child ended with
//     5   the child ends without set(): wait() throws what it threw, `cancelled` or logic_error
#pragma once

#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/task/filled.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

namespace creel {

class nursery;

namespace detail {

// The part of start() on the caller's stack, while the child lives under the caller.
struct pending_start {
    // Throws: cancelled if the caller is, task_cancelled if the target is; std::bad_alloc.
    pending_start(nursery_core& target, std::source_location where);
    ~pending_start();

    // Waits until the child is taken over or has ended. Throws the error that it failed with.
    void wait();

    nursery_core& target;
    nursery_core own; // the child's nursery until it is taken over
    bool is_set = false;
    bool taken_over = false;
};

template <typename T>
struct start_frame : pending_start {
    using pending_start::pending_start;
    std::optional<filled<T>> value{};
};

struct started_state {
    started_state() noexcept = default; // its caller's own
    explicit started_state(pending_start& s) noexcept : start(&s) {}
    started_state(const started_state&) = delete;
    started_state& operator=(const started_state&) = delete;

    void require_unset() const;
    void set() noexcept;

    // Null without a start(), and once set, because start() may have returned.
    pending_start* start = nullptr;
    bool was_set = false;
};

template <typename F, typename T>
struct start_closure;

} // namespace detail

template <typename T>
class started : detail::started_state {
public:
    // Belongs to no start(): for calling f(started<T>&) directly, on a fiber or a plain thread.
    // set() only keeps the value.
    started() noexcept = default;

    // Gives start() its value, and moves the child, with all scopes below it, to the nursery. If
    // the caller of start() is cancelled already, the child stays under the caller and ends there.
    // A second call is a bug, and is caught.
    // Parks: never. Threads: the nursery's; once, by the child or something it waits for. (Without
    // start(): any, one at a time.) Throws: what moving the value in throws, and then it is not
    // set.
    void set(T value) {
        require_unset();
        if (start != nullptr)
            static_cast<detail::start_frame<T>*>(start)->value.emplace(std::move(value));
        else
            kept_.emplace(std::move(value));
        started_state::set();
    }

    // True once set() was called. Threads: as set().
    [[nodiscard]] bool is_set() const noexcept { return was_set; }

    // The value of set(), if this belongs to no start(); else start() returns it. Empty until then.
    // Threads: as set().
    [[nodiscard]] std::optional<T>& value() noexcept { return kept_; }
    [[nodiscard]] const std::optional<T>& value() const noexcept { return kept_; }

private:
    template <typename, typename>
    friend struct detail::start_closure;
    using started_state::started_state;

    std::optional<T> kept_{};
};

template <>
class started<void> : detail::started_state {
public:
    started() noexcept = default;
    void set() {
        require_unset();
        started_state::set();
    }
    [[nodiscard]] bool is_set() const noexcept { return was_set; }

private:
    template <typename, typename>
    friend struct detail::start_closure;
    using started_state::started_state;
};

namespace detail {

// The closure of a child of start(). It outlives the caller's frame. The child has a scope of its
// own, whose token stays good when the child moves to the nursery.
template <typename F, typename T>
struct start_closure {
    template <typename G>
    start_closure(G&& g, pending_start& s) noexcept(std::is_nothrow_constructible_v<F, G&&>)
        : f(std::forward<G>(g)), status(s) {}

    static constexpr closure_kind kind{
        [](void* c) {
            auto& self = *static_cast<start_closure*>(c);
            cancel_scope own;
            const auto body = [&self] { static_cast<void>(std::invoke(self.f, self.status)); };
            static_cast<void>(run_inside(own, duration{}, body));
        },
        [](void* c) noexcept { std::destroy_at(static_cast<start_closure*>(c)); }};

    F f;
    started<T> status;
};

} // namespace detail
} // namespace creel
