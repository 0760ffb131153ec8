// Where a call that asks all runs works: never on the thread of a run, which has to go on to
// answer.
#pragma once

#include <functional>

namespace creel::detail {

// Calls f here, or, if the calling thread has a run, on a thread made for it; the caller parks
// meanwhile. Also because a fiber's stack may be small. It is not a thread of blocking(), which may
// all be stuck. `what` is what the caller waits for, in words.
// Parks: until f has returned; a plain thread blocks. Cancel: no. Threads: any. Throws: what f
// throws; std::system_error if there is no thread.
void on_asking_thread(const char* what, const std::function<void()>& f);

} // namespace creel::detail
