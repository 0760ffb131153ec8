// The search for fibers that wait for each other.
//
// Two things may have to happen before a fiber's wait can end: that another fiber goes on (unlocks
// a lock, returns from the function of a once), or that a task ends. So the graph has a node for
// each: "fiber 7 goes on" and "task 7 ends". Its edges are what must happen first:
//
//     fiber F goes on  ->  fiber H goes on    F waits for a lock that H holds
//     fiber F goes on  ->  task T ends        F waits for T's result, or for the children of a
//                                             nursery, and T is one of them
//     task T ends      ->  fiber T goes on
//     task T ends      ->  task C ends        C is a child of a nursery that T has open
//
// All these are necessary, so a cycle proves that none of its fibers ever goes on. A fiber that
// waits for what any party may do (an event, a queue, a peer) has no edges, and neither has one
// that runs or sleeps. A wait that a deadline will end is left out.
//
// Each cycle passes through the wait of a fiber for a lock or for a result, because the edges from
// openers to children alone make a tree. So the search begins with the held_waits, goes up to the
// fibers above them, and looks at no other fiber: its cost does not depend on how many there are.
#pragma once

#include <vector>

namespace creel::detail {

struct fiber_record;
class scheduler;

// The fibers of a cycle: each waits for the next, and the last for the first. Empty if there is
// none. Threads: the run's, between two switches. Throws: std::bad_alloc.
[[nodiscard]] std::vector<const fiber_record*> find_deadlock();

} // namespace creel::detail
