// Children of a test that forks itself, where run_in_child() would wait in the way: inside a run,
// or while other threads are there.
#pragma once

#include <functional>

namespace creel::test {

// How f ends in a child of this process, as waitpid() says: 0 if it returns. Blocks the thread, at
// most 20 s. What the child says on stderr goes where the parent's goes.
[[nodiscard]] int status_of_fork(const std::function<void()>& f);

// Did it end by abort()?
[[nodiscard]] bool was_aborted(int status);

} // namespace creel::test
