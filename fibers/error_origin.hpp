// The origin of an error that has left a nursery: the child that the error comes from.
//
//     catch (const std::exception& e) {
//         if (const auto child = creel::error_origin(std::current_exception()))
//             log("{}: {}", to_string(*child), e.what());
//     }
//
// In debug mode error_backtrace() tells where it was thrown, too.
#pragma once

#include <creel/fibers/task_info.hpp>

#include <exception>
#include <optional>
#include <string>

namespace creel {

// The child that ended with this exception: with nested nurseries the innermost child, in which it
// was thrown. Empty for null, and for an error that no child has ended with, for example that of a
// nursery's body. Ask while this thread handles the exception, or keep the exception_ptr: the
// answer stays as long as the exception lives. A group has no origin of its own, but each of its
// errors() has one.
// Parks: never. Threads: any. Cost: a lock and a look-up.
[[nodiscard]] std::optional<task_info> error_origin(const std::exception_ptr& error);

// Where the error was thrown, if the run was in debug mode and the error has left a task, the body
// of a nursery or a call of blocking(): a line for each function, the innermost first, each
// "    read_config() at server.cpp:42\n". Else empty. It has the same frames as those of
// dump_fibers(). An error that was caught and thrown again on its way there has the place from
// which it left: that of the rethrow. From then on the place stays the same, however often and
// wherever the error is thrown again. The places of 1,000 living errors are kept.
// Parks: in a fiber, until another thread has found the names, which takes a tenth of a second or
// more the first time; a plain thread blocks. Cancel: no. Threads: any.
// Throws: std::bad_alloc. Cost: a thread.
[[nodiscard]] std::string error_backtrace(const std::exception_ptr& error);

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
