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
#include <source_location>

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

// While one lives, an exception that ends the process is named on stderr before the terminate
// handler that was there: its type, its text and the child it came from, or in which fiber
// std::terminate was called. Errors that have nothing to do with a run are left to that handler.
//
// What nobody catches terminates before anything unwinds, so a watch on the stack that io::run
// throws from still lives. (Below a noexcept function GCC unwinds first: such an error is named
// only while other runs are on.)
class uncaught_watch {
public:
    // Called first, on the thread that is about to end the process, whatever it does so for.
    using hook = void (*)() noexcept;

    // Threads: any; to be destroyed on the same, the last made first.
    explicit uncaught_watch(hook first = nullptr) noexcept;
    ~uncaught_watch();
    uncaught_watch(const uncaught_watch&) = delete;
    uncaught_watch& operator=(const uncaught_watch&) = delete;

    // `error`, if it comes from no child, comes from the function given to io::run at `run`. Not
    // owned: the caller throws it.
    void passes(const std::exception_ptr& error, const std::source_location& run) noexcept;

    [[nodiscard]] const uncaught_watch* outer() const noexcept { return outer_; }
    // Where the run is that throws this exception object; null if it is another.
    [[nodiscard]] const std::source_location* run_of(const void* object) const noexcept {
        return object != nullptr && object == passing_ ? &run_ : nullptr;
    }

private:
    uncaught_watch* const outer_; // of the same thread
    const void* passing_ = nullptr;
    std::source_location run_{};
};

// What tells one exception from another: the address of the exception object; null for none.
[[nodiscard]] void* object_of(const std::exception_ptr& error) noexcept;

} // namespace detail
} // namespace creel
