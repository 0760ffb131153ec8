// What a dump and a report copy of one fiber. On the run's own thread, between two switches.
#pragma once

#include <creel/fibers/detail/inspect/snapshot.hpp>

#include <cstddef>

namespace creel::detail {

struct fiber_record;
struct task_record;

// Who it is. Null `t`: main, or a native; else `f` is null if the task has no fiber. Throws:
// std::bad_alloc.
void copy_identity(fiber_snapshot& to, const task_record* t, const fiber_record* f);

// Its wait, if it is parked, its deadline, its cancel and how much of its stack it uses. `now`: by
// the run's clock. Throws: std::bad_alloc; what the describe() of the program's own waiter throws.
void copy_fiber(fiber_snapshot& to, const fiber_record& f, time_point now);

// Its backtrace, of at most so many frames. Throws: std::bad_alloc.
void copy_frames(fiber_snapshot& to, const fiber_record& f, std::size_t most);

} // namespace creel::detail
