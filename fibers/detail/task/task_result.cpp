#include <creel/fibers/detail/task/task_result.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/detail/cancel/standing_reason.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/held_wait.hpp>

#include <array>
#include <cstddef>
#include <memory>
#include <new>
#include <source_location>
#include <utility>

namespace creel::detail {

namespace {

struct result_waiter : waiter {
    static withdrawal withdraw(waiter& w, wake_reason) noexcept {
        static_cast<result_waiter&>(w).asked->getter = nullptr;
        return withdrawal::withdrawn;
    }
    static void describe(const waiter& w, std::string& text) {
        static_cast<const result_waiter&>(w).asked->describe(text);
    }
    static party_number child(const waiter& w) noexcept {
        return static_cast<const result_waiter&>(w).asked->node->id;
    }
    static constexpr waiter_kind kind{&withdraw, &describe, true, false,
                                      &child,    nullptr,   true, true};

    explicit result_waiter(task_result& r) noexcept : waiter(kind), asked(&r) {}
    task_result* asked;
    held_wait listed{*this};
};

} // namespace

void task_result::require(const task_result* r) noexcept {
    CREEL_ASSERT(r != nullptr, "this task<R> is empty: get() was called, or it was moved from");
}

namespace {

struct refused_result : task_result {
    refused_result(std::shared_ptr<const cancel_reason> why,
                   const std::source_location& from) noexcept
        : where(from) {
        ended = true;
        cancelled = std::move(why);
    }
    std::source_location where;
};

// Never destroyed: a handle may be a global object.
refused_result& refused_without_memory() noexcept {
    alignas(refused_result) static std::array<std::byte, sizeof(refused_result)> place;
    static refused_result& one = *::new (static_cast<void*>(place.data()))
                                     refused_result{unknown_reason(), std::source_location{}};
    return one;
}

} // namespace

task_result& task_result::refused(std::shared_ptr<const cancel_reason> why,
                                  const std::source_location& where) noexcept {
    if (auto* const made = new (std::nothrow) refused_result{std::move(why), where})
        return *made;
    return refused_without_memory();
}

void task_result::await() {
    check_cancel();
    if (ended)
        return;
    CREEL_ASSERT(this_scheduler == home, "task<R>::get() is called on its nursery's thread");
    CREEL_ASSERT(getter == nullptr, "two fibers wait in get() of one task<R>");
    CREEL_ASSERT(node->runner != &home->running(), "a child waits in get() for its own end");
    result_waiter w{*this};
    getter = &w;
    if (park(w) == wake_reason::cancelled)
        throw_cancelled();
}

void task_result::describe(std::string& text) const {
    text += "the result of " +
            to_string(task_info{node->id, std::string{node->name()}, node->spawned_at});
}

void task_result::throw_failure() const {
    if (cancelled == nullptr)
        std::rethrow_exception(error);
    const std::source_location& where =
        node != nullptr ? node->spawned_at : static_cast<const refused_result*>(this)->where;
    if (error == nullptr)
        throw task_cancelled{cancelled, where, "cancelled before it started"};
    throw task_cancelled{cancelled, where};
}

void task_result::end(std::exception_ptr failure,
                      std::shared_ptr<const cancel_reason> why) noexcept {
    error = std::move(failure);
    cancelled = std::move(why);
    ended = true;
    wake_getter();
}

void task_result::wake_getter() noexcept {
    if (getter == nullptr)
        return;
    waiter& w = *std::exchange(getter, nullptr);
    if (wait_node* const among_others = std::exchange(watcher, nullptr))
        if (!claim->try_claim(among_others))
            return;
    wake(w);
}

void task_result::watch(wait_node& node_of_select, wait_claim& its_claim) noexcept {
    CREEL_ASSERT(node == nullptr || this_scheduler == home,
                 "select waits for a task<R> on its nursery's thread");
    CREEL_ASSERT(getter == nullptr, "two fibers wait for one task<R>");
    getter = &node_of_select.who();
    watcher = &node_of_select;
    claim = &its_claim;
}

void task_result::unwatch(const wait_node& node_of_select) noexcept {
    if (watcher != &node_of_select)
        return;
    watcher = nullptr;
    getter = nullptr;
}

void task_result::forget_if_dropped() noexcept {
    if (dropped)
        free();
}

void task_result::drop() noexcept {
    if (node == nullptr) {
        auto* const mine = static_cast<refused_result*>(this);
        if (mine != &refused_without_memory())
            delete mine;
        return;
    }
    // A run goes on while a child has not ended, so only the run's thread may touch the rest.
    CREEL_ASSERT(this_scheduler == home || home->run_number() != run,
                 "a task<R> is dropped on its nursery's thread, or after its run has ended");
    CREEL_ASSERT(getter == nullptr, "a task<R> was dropped while a fiber waits in its get()");
    if (ended)
        free();
    else
        dropped = true;
}

void task_result::free() noexcept {
    task_record& t = *node;
    scheduler& owner = *home;
    const std::uint64_t its_run = run;
    if (has_value && destroy_value != nullptr)
        destroy_value(*this);
    std::destroy_at(this);
    owner.free_kept_task(t, its_run);
}

} // namespace creel::detail
