// blocking(f): runs what would block the thread on a helper thread, while the fiber waits.
//
//     auto rows = creel::blocking([&] { return database.query(text); });
//     auto name = creel::blocking({.abandon = true, .name = "getpwuid"}, [uid] { return ask(uid);
//     });
//
// There are at most 64 helper threads, for the whole process; further callers wait in line, first
// come first served. The line needs no bound of its own: each call in it is a parked fiber, on
// whose stack it lies, and one that waited for a place in the line would do no less. f runs on a
// plain thread: fibers' things (spawning, io/) are not there; sync/ is, and the caller's local<T>
// values.
#pragma once

#include <creel/fibers/detail/blocking_pool.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>

namespace creel {

struct blocking_options {
    // On a cancel leave f running, on its own, instead of waiting for it. f then owns what it
    // needs, and its result or error is dropped.
    bool abandon = false;
    std::string_view name{}; // for list_fibers() and messages; copied
};

// Inside the f of blocking(): throws `cancelled` if the fiber that waits for f is cancelled, so
// that a long f can end early; there too, and everywhere else, as throw_if_cancelled() does, if a
// scope around the call on its own thread is.
// Parks: never. Threads: any. Throws: cancelled. Cost: some loads; a clock read in a scope of f's
// own with a deadline.
void check_cancelled();

namespace detail {

template <typename F, typename R>
struct blocking_call : blocking_job {
    explicit blocking_call(F g, std::string_view called, std::source_location from)
        : blocking_job(called, from,
                       [](blocking_job& job) { static_cast<blocking_call&>(job).call(); }),
          f(std::forward<F>(g)) {}

    void call() {
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
        blocking_call<std::remove_reference_t<F>&, result> call{f, options.name, where};
        pool.run(call);
        return call.take();
    }
    using owned_call = blocking_call<function, result>;
    auto call = std::make_unique<owned_call>(std::forward<F>(f), options.name, where);
    if (!pool.run_or_abandon(
            *call, [](blocking_job& job) noexcept { delete &static_cast<owned_call&>(job); })) {
        static_cast<void>(call.release()); // its thread deletes it
        throw_cancelled();
    }
    return call->take();
}

} // namespace detail

// Runs f on a helper thread and returns its result, or throws its error, here. On a thread without
// a scheduler f runs at once, where it is.
// Parks: until f has ended. Cancel: yes, as long as f waits in line it is not run then; once it
// runs it is awaited, and what it returns or throws is what counts (see check_cancelled), unless it
// is to be abandoned. A call that never returns holds up its run, and is listed, until io::run's
// shutdown_timeout; an abandoned one holds up nothing, and is named when its run ends.
// Threads: any. Throws: what f throws; cancelled; std::system_error if there is no thread to be
// had. Cost: some microseconds, two wakes between threads; an allocation only to abandon.
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
