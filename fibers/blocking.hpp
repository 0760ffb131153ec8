// blocking(f): runs f, which would block the thread, on a helper thread, while the fiber waits.
//
//     auto rows = creel::blocking([&] { return database.query(text); });
//     auto name = creel::blocking({.abandon = true, .name = "getpwuid"},
//                                 [uid] { return ask(uid); });
//
// No thread can be stopped from outside. So blocking() waits for f even when a deadline around the
// call has passed: fail_after(100ms, [] { return blocking(f); }) returns when f returns, with the
// value of f. Three things end the call early:
//  * Inside f, waits of sync/ and this_fiber::sleep_for see the caller's cancel and deadline as if
//    the caller waited there itself. They throw `cancelled`, which passes through blocking() to the
//    scope that absorbs it. A shield around the call hides the cancel, and so does a shield in f.
//  * An f that computes calls check_cancelled(). An f that passes a timeout on to another call asks
//    current_deadline().
//  * {.abandon = true}: the caller goes on at the deadline. f stays behind, and runs on.
//
// At most 64 calls are served at one time in the whole process, each by a helper thread. Further
// callers wait in line, first come, first served. The line needs no bound of its own: each call in
// it is a parked fiber, and lies on the stack of that fiber; a fiber that waited for a place in the
// line would cost as much. A call that was abandoned does not count among the 64. But at most 256
// calls that may be abandoned run at one time, abandoned or not. Further calls of this kind wait in
// line, where a cancel takes them back and calls of the other kind pass them.
//
// f runs on a plain thread. It cannot spawn or use io/. It can use sync/, and it sees the caller's
// local<T> values. It has the caller's signal mask, which a child process that f starts inherits.
// So the kernel may choose the helper thread to handle a signal of the process, like any thread
// with that mask. f may run on every core that the process could use when it started.
//
// A forked child has a pool of its own. A child that is forked inside f may exec, _exit or begin a
// run of its own. f must not return in that child: the child is aborted if it does.
#pragma once

#include <creel/fibers/build_check.hpp>
#include <creel/fibers/detail/blocking/blocking_pool.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>

namespace creel {

struct blocking_options {
    // On a cancel, for example by a deadline, the caller does not wait for f, and f runs on. f must
    // own what it needs. Its result or error is dropped. It still sees the cancel.
    bool abandon = false;
    std::string_view name{}; // for list_fibers() and messages; copied
};

// check_cancel_only() for an f that computes for a long time. Inside the f of blocking() it throws
// `cancelled` if the fiber that waits for f is cancelled, or if a scope in f is cancelled. The same
// holds inside a run that f has started.
// Parks: never. Threads: any. Throws: cancelled. Cost: some loads; a clock read too if f has opened
// a scope with a deadline.
void check_cancelled();

namespace detail {

// A call with its f and the result of f.
template <typename F, typename R>
struct typed_call : blocking_call {
    explicit typed_call(F g, std::string_view called, std::source_location from)
        : blocking_call(called, from,
                        [](blocking_call& call) { static_cast<typed_call&>(call).call_f(); }),
          f(std::forward<F>(g)) {}

    void call_f() {
        if constexpr (std::is_void_v<R>)
            std::invoke(f);
        else
            value.emplace(std::invoke(f));
    }
    R take() {
        if (error != nullptr)
            std::rethrow_exception(error);
        if constexpr (!std::is_void_v<R>)
            return std::move(*value);
    }

    F f;
    std::optional<std::conditional_t<std::is_void_v<R>, bool, R>> value{};
};

template <typename F>
auto blocking_on(blocking_pool& pool, const blocking_options& options, F&& f,
                 std::source_location where)
    -> std::remove_cvref_t<std::invoke_result_t<std::decay_t<F>&>> {
    using function = std::decay_t<F>;
    using result = std::remove_cvref_t<std::invoke_result_t<function&>>;
    if (!options.abandon) { // the caller's frame stays: nothing is moved or allocated
        typed_call<std::remove_reference_t<F>&, result> call{f, options.name, where};
        pool.run(call);
        return call.take();
    }
    using owned_call = typed_call<function, result>;
    auto call = std::make_unique<owned_call>(std::forward<F>(f), options.name, where);
    if (!pool.run_or_abandon(*call, [](blocking_call& owned) noexcept {
            delete &static_cast<owned_call&>(owned);
        })) {
        static_cast<void>(call.release()); // the helper thread deletes it
        throw_cancelled();
    }
    return call->take();
}

} // namespace detail

// Runs f on a helper thread, and returns its result or throws its error here. On a thread without
// a scheduler it calls f at once.
// Parks: until f has ended. Cancel: yes. A call that is cancelled while it waits in line does not
// run f. Once f runs, blocking() waits for it, and the value or error of f decides, unless the call
// may be abandoned. A call that never returns holds up its run, and is listed, until io::run's
// shutdown_timeout. An abandoned call holds up nothing, and is named when its run ends.
// Threads: any. Throws: what f throws; cancelled; std::bad_alloc; std::system_error if there is no
// helper thread and the system has refused to start one for half a second. Cost: some microseconds,
// two wakes between threads, three system calls for the signal mask, and a few small allocations.
template <typename F>
auto blocking(blocking_options options, F&& f,
              std::source_location where = std::source_location::current()) {
    return detail::blocking_on(detail::blocking_pool::shared(), options, std::forward<F>(f), where);
}
template <typename F>
auto blocking(F&& f, std::source_location where = std::source_location::current()) {
    return blocking(blocking_options{}, std::forward<F>(f), where);
}

} // namespace creel
