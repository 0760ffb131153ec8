// A run whose fibers wait for each other ends with this exception.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <stdexcept>

namespace creel {

// Each fiber of a cycle waits for something that only the next of them can give: a lock that it
// holds, its result, or the end of a child. None of them can go on, and creel has proven it. Or
// every fiber of the run waits, and nothing outside can wake one.
//
// The fibers are on stderr by then, with their backtraces; what() has them without. If a cancel can
// end one of the waits, the root is cancelled, with cancel_cause::deadlock, and io::run throws this
// when all fibers have ended. An error of the function given to io::run comes first. If all of them
// are plain lock(), which no cancel ends, the process aborts instead.
//
// A cycle is found within about two seconds; in debug mode at the call that closes it, while at
// most 64 fibers wait so. A wait that a deadline will end is part of no cycle, and so is a wait for
// a fiber of another thread. A cycle that a fiber outside of it may yet cancel is told once, and
// the run goes on.
class deadlock final : public std::runtime_error {
public:
    using std::runtime_error::runtime_error;
};

} // namespace creel
