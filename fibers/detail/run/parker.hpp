// A parker can wait: it is a fiber or a plain thread. This is the part of both that scopes and
// waiters know.
#pragma once

#include <creel/fibers/waiter.hpp>

#include <atomic>
#include <cstdint>

namespace creel::detail {

class scheduler;
struct local_binding;
struct nursery_core;
struct scope_core;

// Everything here belongs to the parker's own thread, except `futex_word`.
struct parker {
    scheduler* home = nullptr;       // null for a plain thread
    scope_core* scope = nullptr;     // the innermost scope; its nursery's if it entered none
    scope_core* outermost = nullptr; // of those it entered itself
    waiter* waiting_on = nullptr;    // null while it runs or is ready
    wake_reason reason = wake_reason::signalled; // how the last park ended
    bool swallow_reported = false;               // as thrown_for
    int budget = 0;                              // cancellation points left before it must yield
    // For the audit of swallowed cancels: the scope `cancelled` was thrown for last, and in which
    // task. Only cancels write it.
    const scope_core* thrown_for = nullptr;
    std::uint64_t thrown_in = 0;
    // The bindings of local<T>s; a carrier's task has its own.
    local_binding* locals = nullptr;
};

// The parker of a thread that has no scheduler. The states of its word, and the function that makes
// each transition:
//
//   awake      it runs, or looks at its scope before it sleeps; no wake has come
//   woken      its waiter was woken
//   poked      it has to look at its tokens
//   sleeping   it is in the kernel, or about to be: a change needs a call to wake it
//
//   any state ------------------- 1 waiter::waiter() ---> awake     a new wait begins
//   awake, poked, sleeping ------ 2 wake() -------------> woken     from `sleeping` by a futex call
//   awake, sleeping ------------- 3 poke() -------------> poked     from `sleeping` by a futex call
//   awake, poked, sleeping ------ 4 park_thread() ------> awake     before it looks at its scope
//   awake ----------------------- 5 park_thread() ------> sleeping  fails if 2 or 3 was first
struct thread_parker : parker {
    enum state : std::uint32_t { awake, woken, poked, sleeping };

    std::atomic<std::uint32_t> futex_word{awake};
    // While it runs a call of blocking(): the deadline that its caller had at the call.
    time_point caller_deadline = time_point::max();
};

// Makes a parked plain thread look at its tokens. Only for a thread that cannot leave the scope of
// the token meanwhile: with the token's mutex held. Threads: any.
void poke(thread_parker& who) noexcept;

// The calling fiber or plain thread.
[[nodiscard]] parker& this_parker() noexcept;

// The calling thread's own parker, even while the thread has a scheduler.
[[nodiscard]] thread_parker& this_thread_parker() noexcept;

} // namespace creel::detail
