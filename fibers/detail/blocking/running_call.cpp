#include <creel/fibers/detail/blocking/running_call.hpp>

#include <creel/fibers/detail/blocking/helper_thread.hpp>
#include <creel/fibers/detail/cancel/cancel_tree.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>

#include <utility>

#include <pthread.h>

namespace creel::detail {

namespace {

struct running_call {
    scope_core* scope = nullptr; // around f, on this thread; null: no call runs
    const cancel_token* callers_token = nullptr;
    debugged_call debugged{};
};
constinit thread_local running_call running_here{};

} // namespace

caller_view::caller_view(const parker& caller)
    : token(current_token()),
      deadline(visible_deadline(caller)),
      party(this_party()),
      debug(caller.home->debug()) {
    ::pthread_sigmask(SIG_SETMASK, nullptr, &signals);
}

// f runs in a scope that the caller's token cancels. This scope never absorbs: a `cancelled` goes
// to the caller like any error, and on to the caller's scope that it is for. f has the caller's
// signal mask, because a child process that f starts inherits the mask, whatever starts it.
void run_as_caller(blocking_call& call, const caller_view& caller) noexcept {
    scope_core scope;
    try {
        scope.bind(caller.token.state_);
        scope.enter(duration{});
    } catch (...) {
        call.error = std::current_exception();
        return;
    }
    thread_parker& me = this_thread_parker();
    std::swap(me.locals, call.locals);
    me.caller_deadline = caller.deadline;
    running_here = {&scope, &caller.token,
                    caller.debug ? debugged_call{&call, caller.party} : debugged_call{}};
    ::pthread_sigmask(SIG_SETMASK, &caller.signals, nullptr);
    call.run();
    const sigset_t idle = helper_signals();
    ::pthread_sigmask(SIG_SETMASK, &idle, nullptr);
    running_here = {};
    me.caller_deadline = time_point::max();
    std::swap(me.locals, call.locals);
    scope.leave();
}

bool runs_blocking_call() noexcept {
    return running_here.scope != nullptr;
}

debugged_call this_debugged_call() noexcept {
    return running_here.debugged;
}

const cancel_token* token_of_caller(const scope_core& scope) noexcept {
    return &scope == running_here.scope ? running_here.callers_token : nullptr;
}

void forget_caller_after_fork() noexcept {
    if (running_here.scope == nullptr)
        return;
    running_here.scope->forget_links();
    this_thread_parker().caller_deadline = time_point::max();
    running_here = {};
}

} // namespace creel::detail
