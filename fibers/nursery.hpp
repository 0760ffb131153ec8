// A nursery owns fibers: with_nursery() returns only when every child it spawned has ended.
//
//     creel::with_nursery([&](creel::nursery& n) {
//         n.spawn([&] { left = fetch(a); });
//         n.spawn({.name = "right"}, [&] { right = fetch(b); });
//     }); // both are done here
//
// The first failure, of a child or of the body, cancels the rest. All are awaited, and then the
// error is rethrown (several become an exception_group). So neither a fiber nor its error is ever
// lost. Nathaniel J. Smith, "Notes on structured concurrency", 2018, is the best account of the
// idea.
#pragma once

#include <creel/fibers/cancel_scope.hpp>
#include <creel/fibers/detail/nursery/nursery_core.hpp>
#include <creel/fibers/detail/report/throw_trace.hpp>
#include <creel/fibers/detail/task/filled.hpp>
#include <creel/fibers/error_policy.hpp>
#include <creel/fibers/remote_nursery.hpp>
#include <creel/fibers/spawn_options.hpp>
#include <creel/fibers/started.hpp>
#include <creel/fibers/task.hpp>

#include <cstddef>
#include <exception>
#include <functional>
#include <new>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace creel {

struct nursery_options {
    error_policy on_error{};
    std::string_view name{}; // for list_fibers(); must outlive the nursery
    // The most children alive at one time; 0: any number. The body does not count, nor does a
    // failed child while its report() handler runs. At the limit spawn waits.
    std::size_t max_children = 0;
};

class nursery;

namespace detail {
struct nursery_access;
}

class nursery {
public:
    nursery(const nursery&) = delete;
    nursery& operator=(const nursery&) = delete;

    // Starts f() as a child. Children run when their turn comes, in the order of spawning. The
    // result of f is ignored; its exception goes to the nursery. In a cancelled nursery f does not
    // run, and is destroyed before spawn returns (a socket that was moved into it closes). A child
    // that never runs counts as a child that ended with `cancelled`. The destructor of f must
    // neither throw nor wait.
    // Parks: only while there are max_children. Cancel: only then, and f does not become a child.
    // Threads: the nursery's, from the body, a child, or something they wait for (elsewhere:
    // remote()). Throws: std::bad_alloc, and what moving f in throws; cancelled if it waited.
    // Cost: tens of ns; no malloc for closures up to 480 bytes and names up to 15 characters.
    template <typename F>
    void spawn(F&& f, std::source_location where = std::source_location::current()) {
        using function = std::decay_t<F>;
        static_assert(std::is_invocable_v<function&>, "spawn takes a function of no arguments");
        if constexpr (detail::fits_warm_task<function, F&&>) {
            using closure = detail::spawned_closure<function>;
            if (detail::task_record* t = core_.submit_warm(closure::kind, where)) [[likely]] {
                ::new (t->closure()) closure(std::forward<F>(f));
                return;
            }
        }
        spawn(spawn_options{}, std::forward<F>(f), where);
    }
    template <typename F>
    void spawn(spawn_options options, F&& f,
               std::source_location where = std::source_location::current()) {
        using function = std::decay_t<F>;
        static_assert(std::is_invocable_v<function&>, "spawn takes a function of no arguments");
        using closure = detail::spawned_closure<function>;
        if (detail::task_record* t = make_child<closure, F>(core_, options, where, f)) [[likely]]
            core_.submit(*t);
    }

    // Like spawn, and returns a handle that fetches the result of f. An error of f goes to the
    // nursery all the same; get() then rethrows it, and it counts once.
    // Parks: as spawn. Cancel: as spawn. Threads: as spawn. Throws: as spawn. Cost: as spawn; the
    // result lies in the child's node.
    template <typename F>
    auto async(F&& f, std::source_location where = std::source_location::current()) {
        return async(spawn_options{}, std::forward<F>(f), where);
    }
    template <typename F>
    auto async(spawn_options options, F&& f,
               std::source_location where = std::source_location::current()) {
        using function = std::decay_t<F>;
        static_assert(std::is_invocable_v<function&>, "async takes a function of no arguments");
        using result = std::remove_cvref_t<std::invoke_result_t<function&>>;
        using closure = detail::async_closure<function, result>;
        detail::task_record* t = make_child<closure, F>(core_, options, where, f);
        if (t == nullptr) [[unlikely]]
            return task<result>{core_.refused(where)};
        detail::task_result& r = static_cast<closure*>(t->closure())->result;
        core_.submit(*t, r);
        return task<result>{r};
    }

    // Starts f(started<T>&) as a child, waits until f calls set(value), and returns the value: for
    // a child that must be ready to serve before others depend on it. Until set() the child lives
    // under the caller: its error is thrown here and does not touch the nursery, and a cancel of
    // the caller cancels it. set() moves it, and all scopes below it, to the nursery. A pending
    // start keeps the nursery open and counts among max_children. f runs in a scope of its own, so
    // its current_token() is good before and after the move, and cancels f alone.
    // Parks: until set() or the end of f. Cancel: yes; f is cancelled and awaited. Threads: as
    // spawn. Throws: what f throws before set(); std::logic_error if f ends without set();
    // task_cancelled in a cancelled nursery, where f does not run; cancelled if the caller is.
    template <typename T = void, typename F>
    T start(F&& f, std::source_location where = std::source_location::current()) {
        return start<T>(spawn_options{}, std::forward<F>(f), where);
    }
    template <typename T = void, typename F>
    T start(spawn_options options, F&& f,
            std::source_location where = std::source_location::current()) {
        using function = std::decay_t<F>;
        static_assert(std::is_invocable_v<function&, started<T>&>,
                      "start takes a function of a started<T>&");
        using closure = detail::start_closure<function, T>;
        detail::start_frame<T> frame{core_, where};
        if (detail::task_record* t = make_child<closure, F>(frame.own, options, where, f, frame))
            frame.own.submit(*t);
        frame.wait();
        if constexpr (!std::is_void_v<T>)
            return std::move(*frame.value);
    }

    // A handle with which other threads, and fibers that may not spawn here, spawn children.
    // Threads: the nursery's. Throws: std::bad_alloc.
    [[nodiscard]] remote_nursery remote() { return remote_nursery{core_.remote()}; }

    // Ends the nursery early: children and body see `cancelled`, and with_nursery absorbs it. With
    // a grace they see it only when the grace has passed (see cancel_scope::cancel); until then
    // spawn works as before. Idempotent. Does not switch.
    // Threads: the nursery's. Throws: std::bad_alloc.
    void cancel(std::string text = {}, saturating_duration grace = {}) {
        core_.scope.cancel(std::move(text), grace);
    }

    // Fails the nursery, whatever its policy: the scope is cancelled, and with_nursery throws this
    // error as it throws the error of a child. For a handler of report() that gives up. The error
    // must not be null. Does not switch. Threads: the nursery's.
    void fail(std::exception_ptr error) noexcept;

    // Waits for all children, as the end of the nursery does. For a body whose local variables the
    // children use.
    //
    //     std::string text = read();
    //     n.spawn([&] { use(text); });
    //     n.join(); // without it `text` would be destroyed before the child runs
    //
    // An exception that leaves the body before this call destroys such variables all the same.
    // Variables that are declared outside with_nursery outlive the children in every case.
    // join() throws no error of a child: that error cancels the nursery, join() throws `cancelled`,
    // and then with_nursery throws the error.
    // Parks: until the children have ended. Cancel: no, the children are cancelled and awaited;
    // then join() throws. Threads: the body's fiber only. Throws: cancelled. Cost: a switch if
    // there are children.
    void join() { core_.join_in_body(); }

    // A handle that cancels the nursery from any thread: <cancel_token.hpp>.
    // Threads: the nursery's. Throws: std::bad_alloc.
    [[nodiscard]] cancel_token token();

    // The scope of the children: for its deadline, its shield and its reason.
    [[nodiscard]] cancel_scope& scope() noexcept { return core_.scope; }

    // Children that have not ended.
    [[nodiscard]] std::size_t children() const noexcept { return core_.children; }

private:
    friend struct detail::nursery_access;

    nursery(nursery_options options, std::source_location where)
        : core_(std::move(options.on_error), options.name, options.max_children, where) {
        core_.face = this;
    }
    explicit nursery(std::source_location where) : core_({}, {}, 0, where) {}

    // A child that is not submitted yet. Null if the nursery is cancelled: then f is destroyed.
    template <typename Closure, typename F, typename... Args>
    static detail::task_record* make_child(detail::nursery_core& core, const spawn_options& options,
                                           std::source_location where,
                                           std::remove_reference_t<F>& f, Args&... args) {
        detail::task_record* t = core.make_task(options, sizeof(Closure), alignof(Closure), where);
        if (t == nullptr) [[unlikely]] {
            [[maybe_unused]] std::decay_t<F> dropped(std::forward<F>(f));
            return nullptr;
        }
        if constexpr (std::is_nothrow_constructible_v<Closure, F&&, Args&...>) {
            ::new (t->closure()) Closure(std::forward<F>(f), args...);
        } else {
            try {
                ::new (t->closure()) Closure(std::forward<F>(f), args...);
            } catch (...) {
                core.discard_task(*t);
                throw;
            }
        }
        t->kind_of_closure = &Closure::kind;
        return t;
    }

    detail::nursery_core core_;
};

namespace detail {

struct nursery_access {
    static nursery open(nursery_options options, std::source_location where) {
        return nursery{std::move(options), where};
    }
    static nursery open(std::source_location where) { return nursery{where}; }
    static nursery_core& core(nursery& n) noexcept { return n.core_; }

    template <typename Body>
    static auto run(nursery& n, Body& body) -> plain_result<Body, nursery&> {
        using result = plain_result<Body, nursery&>;
        std::optional<filled<result>> value;
        try {
            fill(value, body, n);
        } catch (const throw_probe&) {
        } catch (const cancelled&) {
            n.core_.failed(std::current_exception(), true, nullptr);
        } catch (...) {
            n.core_.failed(std::current_exception(), false, nullptr);
        }
        n.core_.join();
        if constexpr (!std::is_void_v<result>)
            if (!value)
                n.core_.throw_absorbed();
        return unfilled<result>(value);
    }
};

} // namespace detail

// Runs body(nursery&), waits for every child, and returns the value of body or throws its error.
// See above.
// Parks: until all children have ended; that wait is not cancellable, the children are. Cancel: a
// cancel of the nursery itself is absorbed here; if it cut a body with a value short, with_nursery
// throws task_cancelled. A cancel from outside is thrown if it ended the body or a child, or kept a
// child from running; if no wait has thrown it, with_nursery returns. Threads: those with a
// scheduler. Throws: what body and children throw.
template <typename Body>
auto with_nursery(nursery_options options, Body&& body,
                  std::source_location where = std::source_location::current())
    -> detail::plain_result<Body, nursery&> {
    nursery n = detail::nursery_access::open(std::move(options), where);
    return detail::nursery_access::run(n, body);
}

template <typename Body>
auto with_nursery(Body&& body, std::source_location where = std::source_location::current())
    -> detail::plain_result<Body, nursery&> {
    nursery n = detail::nursery_access::open(where);
    return detail::nursery_access::run(n, body);
}

} // namespace creel
