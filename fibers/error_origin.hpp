// Who threw it: an error that leaves a nursery can be asked for the fiber it comes from.
//
//     catch (const std::exception& e) {
//         if (const auto who = creel::error_origin(std::current_exception()))
//             log("{}: {}", to_string(*who), e.what());
//     }
#pragma once

#include <creel/fibers/task_info.hpp>

#include <exception>
#include <optional>

namespace creel {

// The child that ended with this exception: with nested nurseries the innermost, where it came
// from. Empty for an error that no child has ended with, as that of a nursery's body on its way out
// of with_nursery, and for null. Ask while the exception is being handled on this thread, or keep
// the exception_ptr: the answer stands as long as the exception lives. A group has no origin of its
// own, its errors() have.
// Parks: never. Threads: any. Cost: a lock and a look-up.
[[nodiscard]] std::optional<task_info> error_origin(const std::exception_ptr& error);

namespace detail {

struct task_record;

// Notes where an error comes from, unless that is known already. Without memory it is forgotten.
void note_origin(const std::exception_ptr& error, const task_record& who) noexcept;

// What tells one exception from another: the address of the exception object; null for none.
[[nodiscard]] inline void* object_of(const std::exception_ptr& error) noexcept {
    static_assert(sizeof(std::exception_ptr) == sizeof(void*)); // it is one pointer
    return *reinterpret_cast<void* const*>(&error);
}

} // namespace detail
} // namespace creel
