// task<R>: the handle of a child that nursery::async() started, by which its result is fetched.
//
//     creel::with_nursery([&](creel::nursery& n) {
//         auto left = n.async([&] { return fetch(a); });
//         auto right = n.async([&] { return fetch(b); });
//         use(left.get(), right.get());
//     });
//
// The child belongs to the nursery, as any other: its error goes there too, and the same exception
// counts once. The handle may be dropped, or kept longer than the nursery and its run.
#pragma once

#include <creel/fibers/detail/task/task_result.hpp>

#include <type_traits>
#include <utility>

namespace creel {

class nursery;

namespace sync::detail {
struct task_access;
}

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
    // Drops the handle: the child goes on, and nobody asks for its value.
    // Threads: the nursery's; any once its run has ended. Never parks.
    ~task() { drop(); }

    // False after get(), and for a handle that was moved from.
    [[nodiscard]] bool valid() const noexcept { return result_ != nullptr; }

    // True when get() need not wait: the child has ended, or never will start.
    // Parks: never. Threads: as get().
    [[nodiscard]] bool ready() const noexcept {
        detail::task_result::require(result_);
        return result_->ended;
    }

    // Moves the child's value out, once: the handle is empty afterwards, however the child ended.
    // Parks: until the child has ended. Cancel: yes, the value can be fetched later then.
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
    friend struct sync::detail::task_access; // for select

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

} // namespace creel
