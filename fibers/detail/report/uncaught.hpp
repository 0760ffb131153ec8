// Names the exception that ends the process.
#pragma once

#include <exception>
#include <source_location>

namespace creel::detail {

// While a watch exists, an exception that ends the process is named on stderr before the earlier
// terminate handler runs: its type, its text and the child it came from, or in which fiber
// std::terminate was called. Errors that have nothing to do with a run are left to that handler.
//
// An exception that no handler catches terminates before anything unwinds, so a watch on the stack
// that io::run throws from still exists. (Below a noexcept function GCC unwinds first: such an
// error is named only while other runs are on.)
class uncaught_watch {
public:
    // Called first, on the thread that is about to end the process, for whatever reason.
    using hook = void (*)() noexcept;

    // Threads: any; it is destroyed on the thread that made it, the last made first.
    explicit uncaught_watch(hook first = nullptr) noexcept;
    ~uncaught_watch();
    uncaught_watch(const uncaught_watch&) = delete;
    uncaught_watch& operator=(const uncaught_watch&) = delete;

    // If `error` comes from no child, it comes from the function given to io::run at `run`. Not
    // owned: the caller throws it.
    void passes(const std::exception_ptr& error, const std::source_location& run) noexcept;

    [[nodiscard]] const uncaught_watch* outer() const noexcept { return outer_; }
    // The place of the run that throws this exception object; null if it throws another.
    [[nodiscard]] const std::source_location* run_of(const void* object) const noexcept {
        return object != nullptr && object == passing_ ? &run_ : nullptr;
    }

private:
    uncaught_watch* const outer_; // of the same thread
    const void* passing_ = nullptr;
    std::source_location run_{};
};

} // namespace creel::detail
