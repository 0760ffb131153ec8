// task<R>: the handle of a child that nursery::async() started. It fetches the child's result.
//
//     creel::with_nursery([&](creel::nursery& n) {
//         auto left = n.async([&] { return fetch(a); });
//         auto right = n.async([&] { return fetch(b); });
//         use(left.get(), right.get());
//     });
//
// The child belongs to the nursery, as any other child: its error goes there too, and the same
// exception counts once. The handle may be dropped, or kept longer than the nursery and its run.
#pragma once

#include <creel/fibers/detail/task/task_result.hpp>
#include <creel/fibers/wait_list.hpp>

#include <string>
#include <type_traits>
#include <utility>

namespace creel {

class nursery;
class task_end;

template <typename R>
class [[nodiscard]] task {
    static_assert(!std::is_reference_v<R> && !std::is_const_v<R>);

public:
    // Refers to no child.
    task() noexcept = default;
    task(task&& other) noexcept : result_(std::exchange(other.result_, nullptr)) {}
    task& operator=(task&& other) noexcept {
        if (this != &other) {
            drop();
            result_ = std::exchange(other.result_, nullptr);
        }
        return *this;
    }
    // Drops the handle: the child goes on, and its value is dropped.
    // Parks: never. Threads: the nursery's; any once its run has ended.
    ~task() { drop(); }

    // False after get(), and for a handle that was moved from.
    [[nodiscard]] bool valid() const noexcept { return result_ != nullptr; }

    // True when get() need not wait: the child has ended, or will never start.
    // Parks: never. Threads: as get().
    [[nodiscard]] bool ready() const noexcept {
        detail::task_result::require(result_);
        return result_->ended;
    }

    // Moves the child's value out, once: the handle is empty afterwards, however the child ended.
    // Parks: until the child has ended. Cancel: yes, and the value can be fetched later.
    // Threads: the nursery's; any once its run has ended. Throws: what the child threw;
    // task_cancelled if it was cancelled or never started; cancelled. Cost: two switches.
    R get() {
        detail::task_result::require(result_);
        result_->await();
        const taken mine{std::exchange(result_, nullptr)};
        if (!mine.result->has_value) [[unlikely]]
            mine.result->throw_failure();
        if constexpr (!std::is_void_v<R>)
            return std::move(static_cast<detail::value_result<R>*>(mine.result)->value);
    }

private:
    friend class nursery;
    friend class task_end;

    struct taken {
        detail::task_result* result;
        ~taken() { result->drop(); }
    };

    explicit task(detail::task_result& r) noexcept : result_(&r) {}
    void drop() noexcept {
        if (result_ != nullptr)
            result_->drop();
    }

    detail::task_result* result_ = nullptr;
};

// The end of a child, when a fiber waits for several things and the first of them wakes it:
// sync::select uses this class. The fiber parks once; each of its waits has a wait_node, and all
// nodes share one wait_claim.
//
//     child.watch(node, claim);           // before the park
//     if (claim.winner() == &node) ...    // behind it: the child's end has come first
//     child.unwatch(node);                // in any case
//
// It refers to the child, and not to the handle: meanwhile the task<R> must be kept and not asked.
// Threads: the child's; any once its run has ended.
class task_end {
public:
    // The handle must not be empty.
    template <typename R>
    explicit task_end(const task<R>& t) noexcept : result_(t.result_) {
        detail::task_result::require(result_);
    }

    // True when the child has ended, or will never start. Parks: never.
    [[nodiscard]] bool has_come() const noexcept { return result_->ended; }

    // From now on, when the child ends, it claims `claim` for `node`. If it is the first to claim,
    // it wakes the waiter of the node. Only for a child that has not ended, and for one wait or
    // get() at a time.
    // Parks: never.
    void watch(wait_node& node, wait_claim& claim) noexcept { result_->watch(node, claim); }
    // Ends the watch; does nothing if the child has ended since. Parks: never.
    void unwatch(const wait_node& node) noexcept { result_->unwatch(node); }

    // For waiter_kind::describe: appends "the result of" and which child. Cost: allocates.
    void describe(std::string& text) const { result_->describe(text); }

private:
    detail::task_result* result_;
};

} // namespace creel
