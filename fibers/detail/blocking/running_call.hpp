// The call of blocking() that runs on a helper thread, and the caller as f sees it there: the
// caller's cancel and deadline, its local<T> values and its signal mask.
#pragma once

#include <creel/fibers/cancel_token.hpp>
#include <creel/fibers/detail/blocking/blocking_call.hpp>
#include <creel/fibers/time.hpp>
#include <creel/fibers/waiter.hpp>

#include <csignal>

namespace creel::detail {

struct parker;
struct scope_core;

// The caller as f sees it. The object lies on the caller's stack until a helper thread takes the
// call, and on the helper's stack from then on.
struct caller_view {
    // On the caller's thread.
    explicit caller_view(const parker& caller);

    // The token of the scope in which the caller waits. f is cancelled with that scope: it sees a
    // cancel as a child of the caller would, even after the caller has abandoned the call. The
    // token reads nothing on the caller's stack.
    cancel_token token;
    time_point deadline;
    party_number party;
    bool debug;
    sigset_t signals;
};

// Runs f on this helper thread as its caller would run it.
void run_as_caller(blocking_call& call, const caller_view& caller) noexcept;

// True while f runs on this helper thread. Threads: any.
[[nodiscard]] bool runs_blocking_call() noexcept;

// For debug mode, on a helper thread that runs a call: the call, and the task or fiber that waits
// for it. Null and 0 on other threads, and if the run of the caller is not in debug mode.
// Threads: any.
struct debugged_call {
    const blocking_call* record = nullptr;
    party_number caller = 0;
};
[[nodiscard]] debugged_call this_debugged_call() noexcept;

// The token of the caller, if `scope` is the scope around an f that runs on this thread; else null.
// Then every question that f asks about its own scope, and every action on it, goes to the caller's
// scope.
[[nodiscard]] const cancel_token* token_of_caller(const scope_core& scope) noexcept;

// In a forked child. Another thread of the parent may have held the locks of the caller's tokens:
// the rest of f does not ask the tokens any more.
void forget_caller_after_fork() noexcept;

} // namespace creel::detail
