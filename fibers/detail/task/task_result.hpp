// The result of a child of async(), between the child and its task<R>.
//
// It is in the child's own node, behind the closure, so async() allocates no more than spawn()
// does. The node goes back to the pool when the child has ended *and* the handle is destroyed. A
// handle may outlive the run: then the pool leaves the slab of the node behind, see node_pool.
//
// The states, by child and handle:
//
//                   child runs            child has ended
//     handle        pending ──── 1 ─────► ended (value, error or cancelled)
//                      │ 2                   │ 3
//     no handle     dropped ──── 4 ─────► freed
//     1  end(), from scheduler::end_with(): wakes the getter. `has_value`: the closure has returned
//     2  drop(), while the child runs: nothing asks for the result any more
//     3  drop(), afterwards; get() also drops the handle when it has moved the value out
//     4  forget_if_dropped(), the last step for the child
// The result of a child that never existed (refused()) is `ended` from the beginning, has no node,
// and is deleted by drop().
//
// The getter, while `pending`: null -> a waiter in await() or in watch() -> null, by end(), by a
// withdrawal or by unwatch(). There is at most one.
#pragma once

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/task/filled.hpp>
#include <creel/fibers/detail/task/task_record.hpp>
#include <creel/fibers/wait_list.hpp>

#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>

namespace creel::detail {

class scheduler;

// Threads: the child's; any once its run has ended.
struct task_result {
    task_result() noexcept = default;
    task_result(const task_result&) = delete;
    task_result& operator=(const task_result&) = delete;

    // Ends the process if the handle refers to no child.
    static void require(const task_result* r) noexcept;
    // For the handle of a child that a cancelled nursery did not take. Without memory it is the
    // same object for all of them, and knows neither the reason nor the place.
    static task_result& refused(std::shared_ptr<const cancel_reason> why,
                                const std::source_location& where) noexcept;

    // Parks until the child has ended; the cancellation point of get(). Throws: cancelled.
    void await();
    // Throws: what the child threw, or task_cancelled.
    [[noreturn]] void throw_failure() const;
    // The handle is destroyed.
    void drop() noexcept;

    // The child has ended. `failure`: null if it returned or did not start. `why`: not null if a
    // cancel of its nursery has ended it or kept it from starting.
    void end(std::exception_ptr failure, std::shared_ptr<const cancel_reason> why) noexcept;
    // Frees the node if the handle is destroyed.
    void forget_if_dropped() noexcept;

    // For task_end, which has the rules.
    void watch(wait_node& node_of_select, wait_claim& its_claim) noexcept;
    void unwatch(const wait_node& node_of_select) noexcept;

    // For the dump: "the result of" and which child.
    void describe(std::string& text) const;

    scheduler* home = nullptr;
    std::uint64_t run = 0;       // the number of home's run
    task_record* node = nullptr; // that it lies in; null if the child was refused
    void (*destroy_value)(task_result&) noexcept = nullptr;
    waiter* getter = nullptr;     // parked in await(), or in a wait for several things
    wait_node* watcher = nullptr; // that wait's; null for await()
    wait_claim* claim = nullptr;  // likewise
    std::exception_ptr error{};
    std::shared_ptr<const cancel_reason> cancelled{}; // null unless a cancel ended or dropped it
    bool has_value = false;                           // the closure has returned
    bool ended = false;                               // and what the child owned is destroyed
    bool dropped = false;                             // the handle is destroyed

private:
    void wake_getter() noexcept;
    void free() noexcept;
};

template <typename R>
struct value_result : task_result {
    value_result() noexcept {
        if constexpr (!std::is_trivially_destructible_v<filled<R>>)
            destroy_value = [](task_result& r) noexcept {
                std::destroy_at(std::addressof(static_cast<value_result&>(r).value));
            };
    }
    ~value_result() {}

    template <typename F>
    void run(F& f) {
        if constexpr (std::is_void_v<R>)
            std::invoke(f);
        else
            ::new (static_cast<void*>(std::addressof(value))) R(std::invoke(f));
        has_value = true;
    }

    union {
        filled<R> value; // if has_value
    };
};

// The closure that async() puts into a node. `f` is destroyed when the child ends, the rest when
// the node is freed.
template <typename F, typename R>
struct async_closure {
    template <typename G>
    explicit async_closure(G&& g) noexcept(std::is_nothrow_constructible_v<F, G&&>) // NOLINT
        : f(std::forward<G>(g)) {}
    ~async_closure() {}
    async_closure(const async_closure&) = delete;
    async_closure& operator=(const async_closure&) = delete;

    static constexpr closure_kind kind{[](void* c) {
                                           auto& self = *static_cast<async_closure*>(c);
                                           self.result.run(self.f);
                                       },
                                       [](void* c) noexcept {
                                           std::destroy_at(
                                               std::addressof(static_cast<async_closure*>(c)->f));
                                       }};

    value_result<R> result;
    union {
        F f;
    };
};

} // namespace creel::detail
