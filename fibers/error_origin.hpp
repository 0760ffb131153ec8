// The origin of an error that has left a nursery: the child that the error comes from.
//
//     catch (const std::exception& e) {
//         if (const auto child = creel::error_origin(std::current_exception()))
//             log("{}: {}", to_string(*child), e.what());
//     }
#pragma once

#include <creel/fibers/task_info.hpp>

#include <exception>
#include <optional>

namespace creel {

// The child that ended with this exception: with nested nurseries the innermost child, in which it
// was thrown. Empty for null, and for an error that no child has ended with, for example that of a
// nursery's body. Ask while this thread handles the exception, or keep the exception_ptr: the
// answer stays as long as the exception lives. A group has no origin of its own, but each of its
// errors() has one.
// Parks: never. Threads: any. Cost: a lock and a look-up.
[[nodiscard]] std::optional<task_info> error_origin(const std::exception_ptr& error);

namespace detail {

struct task_record;

// Notes that an error comes from this child, unless its origin is known already. Without memory the
// origin stays unknown.
void note_origin(const std::exception_ptr& error, const task_record& child) noexcept;

// Tells one exception from another: the address of the exception object; null for none.
[[nodiscard]] inline void* object_of(const std::exception_ptr& error) noexcept {
    return *reinterpret_cast<void* const*>(&error); // all that an exception_ptr holds
}

} // namespace detail
} // namespace creel
