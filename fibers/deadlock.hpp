// A run whose fibers wait for each other ends with this exception.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <stdexcept>

namespace creel {

// Each fiber of a cycle waits for something that only the next of them can give: a lock that it
// holds, its result, or the end of a child. None of them can go on, and creel has proven it.
//
// The cycle is on stderr by then, with each fiber and its backtrace; what() has it without the
// backtraces. If a cancel can end one of these waits, the root is cancelled, with
// cancel_cause::deadlock, and io::run throws this when all fibers have ended. An error of the
// function given to io::run comes first. If all of them are plain lock(), which no cancel ends, the
// process aborts instead.
//
// A cycle is found within a second or two; in debug mode at the call that closes it. A wait that a
// deadline will end is part of no cycle, and so is a wait for a fiber of another thread.
class deadlock final : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

} // namespace creel
