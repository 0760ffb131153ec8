// started<T>: by it a child that nursery::start() runs says that it is ready to serve.
//
//     const auto address = n.start<io::endpoint>([&](creel::started<io::endpoint>& ready) {
//         io::tcp_listener listener{io::endpoint{"127.0.0.1", 0}};
//         ready.set(listener.local_endpoint()); // start() returns it, and the child goes on
//         serve(listener);
//     });
//
// Who calls such a function without a nursery makes one of its own (Trio's TASK_STATUS_IGNORED):
//
//     creel::started<io::endpoint> ready;
//     service(ready); // serves here until it ends; ready.value() is what it has set
//
// The idea is Trio's nursery.start() and task_status.started().
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

// What start() keeps on its stack while the child lives under the caller.
struct pending_start {
    // Throws: cancelled if the caller is, task_cancelled if the target is; std::bad_alloc.
    pending_start(nursery_core& target, std::source_location where);
    ~pending_start();

    // Waits until the child has been taken over, or has ended. Throws what it failed with.
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

    pending_start* start = nullptr; // null once set: start() may have returned; or there is none
    bool was_set = false;
};

template <typename F, typename T>
struct start_closure;

} // namespace detail

template <typename T>
class started : detail::started_state {
public:
    // One that belongs to no start(), for calling f(started<T>&) directly, on a fiber or a plain
    // thread: set() only keeps the value.
    started() noexcept = default;

    // Gives start() its value. The child, and all scopes below it, move to the nursery; only if the
    // caller of start() is already cancelled it stays under him, and ends there. A second time is a
    // bug, and is caught.
    // Parks: never. Threads: the nursery's; once, by the child or something it waits for. (One that
    // belongs to no start(): any, one at a time.)
    // Throws: what moving the value in throws; it is not set then.
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

    // What set() was given, if this belongs to no start(), which else returns it. Empty until then.
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

// What start() puts into a node. The child's own part outlives the caller's frame. It has a scope
// of its own, whose token stays good when the child moves to the nursery.
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
