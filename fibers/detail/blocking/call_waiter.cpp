#include <creel/fibers/detail/blocking/call_waiter.hpp>

#include <creel/fibers/detail/blocking/running_call.hpp>
#include <creel/fibers/detail/run/scheduler.hpp>
#include <creel/fibers/local.hpp>
#include <creel/fibers/this_fiber.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <new>
#include <system_error>

namespace creel::detail {

namespace {

// When the system refuses a thread, the caller asks again after the first pause, and then after
// pauses that double up to the longest. A call that no helper thread can take instead fails when
// the thread has been refused this often: after half a second.
constexpr std::chrono::milliseconds first_pause{1};
constexpr std::chrono::milliseconds longest_pause{256};
constexpr int most_refusals = 10;

[[noreturn]] void throw_without_thread(const blocking_call& call, int error) {
    throw std::system_error(error, std::system_category(),
                            "the " + call.describe() +
                                " needs a helper thread, and none can be started");
}

} // namespace

call_waiter::call_waiter(blocking_pool& p, blocking_call& c, caller_view& v, scheduler& h) noexcept
    : waiter(table), pool(&p), call(&c), view(&v), home(&h), pause(first_pause) {}

call_waiter::~call_waiter() {
    home->cancel(next_try);
}

void call_waiter::try_later() {
    next_try.of = this;
    home->arm(next_try, now() + pause, pause);
    pause = std::min<duration>(2 * pause, longest_pause);
}

withdrawal call_waiter::withdraw(waiter& w, wake_reason) noexcept {
    auto& self = static_cast<call_waiter&>(w);
    return self.pool->withdraw(self);
}

void call_waiter::describe(const waiter& w, std::string& text) {
    text += "the " + static_cast<const call_waiter&>(w).call->describe();
}

call_waiter::retry_timer::retry_timer() noexcept
    : timer([](timer& due) noexcept {
          call_waiter& w = *static_cast<retry_timer&>(due).of;
          w.pool->retry(w);
      }) {}

void blocking_pool::run(blocking_call& call) {
    if (!run_queued(call))
        throw_cancelled();
}

bool blocking_pool::run_or_abandon(blocking_call& call, void (*destroy)(blocking_call&) noexcept) {
    call.destroy = destroy;
    return run_queued(call);
}

// False: the caller was cancelled while f ran, and the call is abandoned.
bool blocking_pool::run_queued(blocking_call& call) {
    check_cancel();
    parker& me = this_parker();
    if (me.home == nullptr) { // a plain thread may block itself
        call.run();
        return true;
    }
    call.locals = share_locals(me.home->locals());
    caller_view view{me};
    for (;;) {
        call_waiter w{*this, call, view, *me.home};
        enqueue(call, w);
        if (park(w) == wake_reason::cancelled) {
            if (!w.abandoned)
                throw_cancelled();
            return false;
        }
        if (w.error != 0)
            throw_without_thread(call, w.error);
        if (!w.sent_back)
            return true;
        check_cancel_only();
    }
}

// Transitions 1 and 5. Throws: std::bad_alloc; the call is in no line then.
void blocking_pool::enqueue(blocking_call& call, call_waiter& caller) {
    const std::lock_guard lock{mutex_};
    call_list& line = line_of(call);
    call.caller = &caller;
    call.home = caller.home;
    if (call.state == blocking_call::state_type::sent_back) {
        line.push_front(call);
    } else {
        call.ticket = next_ticket_++;
        line.push(call);
    }
    call.state = blocking_call::state_type::queued;
    if (ensure_thread() == 0)
        return;
    try {
        caller.try_later();
    } catch (...) {
        line.remove(call);
        throw;
    }
}

// Transition 2, for lack of a thread. Called by the caller's timer while the caller waits.
void blocking_pool::retry(call_waiter& w) noexcept {
    const std::lock_guard lock{mutex_};
    if (w.abandoned || w.call->state != blocking_call::state_type::queued)
        return;
    int error = ensure_thread();
    if (error == 0)
        return;
    if (serving() != 0 || ++w.refusals < most_refusals) {
        try {
            w.try_later();
            return;
        } catch (const std::bad_alloc&) {
            error = ENOMEM;
        }
    }
    line_of(*w.call).remove(*w.call);
    w.call->state = blocking_call::state_type::dropped;
    w.error = error;
    wake(w);
}

// Transition 4. The caller of this call waits in line on a thread that does not know that a new
// helper thread is wanted. Woken, it asks for one itself, again and again if need be.
void blocking_pool::send_back(blocking_call& call) noexcept {
    line_of(call).remove(call);
    call.state = blocking_call::state_type::sent_back;
    call.caller->sent_back = true;
    wake(*call.caller);
}

// Transitions 2 and 7, when the caller is cancelled.
withdrawal blocking_pool::withdraw(call_waiter& w) noexcept {
    blocking_call& call = *w.call;
    const std::lock_guard lock{mutex_};
    switch (call.state) {
    case blocking_call::state_type::queued:
        line_of(call).remove(call);
        call.state = blocking_call::state_type::dropped;
        return withdrawal::withdrawn; // f has not run and will not run
    case blocking_call::state_type::running:
        if (!call.may_be_abandoned())
            return withdrawal::pending; // f sees the cancel by its token
        call.state = blocking_call::state_type::abandoned;
        abandoned_.push(call);
        w.abandoned = true;
        if (ensure_thread() != 0) // to replace the helper thread that stays with the call
            send_back(*next_to_run());
        return withdrawal::withdrawn;
    default:
        return withdrawal::pending; // the wake is on its way
    }
}

} // namespace creel::detail
