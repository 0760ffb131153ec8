// How a child of async() ended, between the child and the task<R> that asks for it.
//
// It lies in the child's own node, behind the closure, so that async() allocates nothing more than
// spawn() does. The node goes back to the pool when the child has ended *and* the handle is gone.
// A handle may outlive the run: its node's slab is then left behind by the pool, see node_pool.
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

    // Ends the process if there is no child behind the handle.
    static void require(const task_result* r) noexcept;
    // What the handle of a child that a cancelled nursery did not take refers to. Without memory it
    // is the same for all of them, and knows neither the reason nor the place.
    static task_result& refused(std::shared_ptr<const cancel_reason> why,
                                const std::source_location& where) noexcept;

    // Parks until the child has ended; the cancellation point of get(). Throws: cancelled.
    void await();
    // What the child threw, or task_cancelled.
    [[noreturn]] void throw_failure() const;
    // The handle goes.
    void drop() noexcept;

    // The child has ended. `failure` is null if it returned or did not start; `why` is not, if a
    // cancel of its nursery has ended it or kept it from starting.
    void end(std::exception_ptr failure, std::shared_ptr<const cancel_reason> why) noexcept;
    // The last that is done for the child: frees the node if nobody will ask for the result.
    void forget_if_dropped() noexcept;

    // For task_end, which has the rules.
    void watch(wait_node& node_of_select, wait_claim& its_claim) noexcept;
    void unwatch(const wait_node& node_of_select) noexcept;

    // For the dump: "the result of" and which child.
    void describe(std::string& text) const;

    scheduler* home = nullptr;
    std::uint64_t run = 0;       // which one of home's
    task_record* node = nullptr; // where it lies; null if it was refused
    void (*destroy_value)(task_result&) noexcept = nullptr;
    waiter* getter = nullptr;     // parked in await(), or in a wait for several things
    wait_node* watcher = nullptr; // that wait's; null for await()
    wait_claim* claim = nullptr;  // likewise
    std::exception_ptr error{};
    std::shared_ptr<const cancel_reason> cancelled{}; // why it was, or never started; else null
    bool has_value = false;                           // the closure has returned
    bool ended = false;   // and what it owned is gone: the handle may look
    bool dropped = false; // nobody will ask

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

// What async() puts into a node. The closure is destroyed when the child ends, the rest when the
// node is freed.
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
