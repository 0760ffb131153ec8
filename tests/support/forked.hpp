// Child processes for tests in which run_in_child() cannot be used: inside a run, or while the
// process has other threads.
#pragma once

#include <functional>

namespace creel::test {

// Runs f in a child process and returns its status as waitpid() gives it: 0 if f returns. Blocks
// the thread, at most 20 s. The child has the parent's stderr.
[[nodiscard]] int status_of_fork(const std::function<void()>& f);

// Returns true if the status is that of abort().
[[nodiscard]] bool was_aborted(int status);

} // namespace creel::test
