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
// A fiber that waits for what any party may do (an event, a queue, a peer) has no edges, and
// neither has one that runs or sleeps. A wait that a deadline or its own timer will end is left
// out, and so is a nursery of start(): its child may move away.
//
// So none of the fibers of a cycle goes on unless a cancel ends one of their waits. The cycle is
// proven if no cancel will. Each of its waits is then one that no cancel ends, or those that could
// cancel it are stuck themselves: a nursery around the wait, below the root, is cancelled by the
// fiber that opened it or by another child. A scope that a token knows may be cancelled from
// anywhere, and so may a nursery by a task that another thread hands in.
//
// Each cycle passes through the wait of a fiber for a lock or for a result, because the edges from
// openers to children alone make a tree. So the search begins with the held_waits, goes up to the
// fibers above them, and looks at no other fiber: its cost does not depend on how many there are.
#pragma once

#include <vector>

namespace creel::detail {

struct fiber_record;
struct scope_core;

struct deadlock_cycle {
    // Each waits for the next, and the last for the first; the lowest number comes first.
    std::vector<const fiber_record*> fibers{};
    bool is_proven = false; // else a cancel from elsewhere may yet end it
};

// A proven cycle, or else one that is not; without fibers if there is none. `root`: of the run; may
// be null. Threads: the run's, between two switches. Throws: std::bad_alloc.
[[nodiscard]] deadlock_cycle find_deadlock(const scope_core* root);

} // namespace creel::detail
