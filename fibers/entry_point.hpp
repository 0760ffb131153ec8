// The functions of fibers/ that an entry point needs. An entry point is a function that runs a
// program's function as the first fiber of a thread: io::run is one. It brings a poller of its own.
//
//     creel::root_main main{f};
//     creel::entry_point entry{where};
//     entry.on_living_thread([&] {
//         my_poller outside;
//         creel::run_scheduler(outside, options, [&] { entry.run([&] { main.run(entry); }); });
//     });
//     return main.result();
#pragma once

#include <creel/fibers/build_check.hpp>
#include <creel/fibers/detail/report/uncaught.hpp>
#include <creel/fibers/detail/task/filled.hpp>
#include <creel/fibers/nursery.hpp>
#include <creel/fibers/scheduler.hpp>

#include <concepts>
#include <exception>
#include <functional>
#include <optional>
#include <source_location>
#include <type_traits>
#include <utility>

namespace creel {

template <typename F>
class root_main;

// One call of an entry point. From its construction to its destruction, an exception that ends the
// process is named on stderr, with the fiber it came from.
class entry_point {
public:
    // Called first on the thread that is about to end the process by std::terminate.
    using terminate_hook = void (*)() noexcept;
    // Receives the scope that everything of the run is in: the root's scope when the root begins,
    // and then the scope of the Boost fibers that are left; null when either has ended. A
    // signal or a shutdown cancels that scope. It must not throw.
    using scope_listener = std::function<void(cancel_scope*)>;

    // `where`: the call of the entry point, for messages.
    // Threads: any; it is destroyed on the thread that made it, the last made first.
    explicit entry_point(std::source_location where, terminate_hook hook = nullptr) noexcept;
    entry_point(const entry_point&) = delete;
    entry_point& operator=(const entry_point&) = delete;

    // Calls f here. On a thread that is ending (after main, in the destructor of a global object or
    // of a thread_local, in an atexit function) no run is possible any more: then f is called on a
    // thread made for it, which sees the local<T>s of the caller, and the caller waits.
    // Parks: it blocks the thread. Threads: the thread that made this object. Throws: what f
    // throws; std::system_error if no thread can be started.
    void on_living_thread(const std::function<void()>& f);

    // Call it before root_main::run().
    void set_scope_listener(scope_listener listener) { listener_ = std::move(listener); }

    // Calls main, which calls root_main::run(). Then waits until no Boost fiber is inside a creel
    // call any more: their waits are cancelled as the root was, and have what is left of its grace.
    // If nothing catches the error of main, stderr names its origin: the child that it comes from,
    // or else the function given to the entry point.
    // Parks: until then. Cancel: no. Threads: the main fiber, inside run_scheduler. Throws: what
    // main throws, after the wait.
    void run(const std::function<void()>& main);

private:
    template <typename F>
    friend class root_main;

    void drain();
    void root_begins(nursery& root) noexcept;
    void root_ended(nursery& root) noexcept;
    void tell_listener(cancel_scope* everything) noexcept;

    const std::source_location where_;
    detail::uncaught_watch watch_;
    scope_listener listener_{};
    detail::cancel_request root_cancel_{}; // the cancel that the root ended with
};

namespace detail {

template <typename F>
decltype(auto) call_with_root(F& f, nursery& root) {
    if constexpr (std::invocable<F&, nursery&>)
        return std::invoke(f, root);
    else
        return std::invoke(f);
}

} // namespace detail

// The result of an entry point for an F, which may take the root nursery&.
template <typename F>
using root_result = std::remove_cvref_t<decltype(detail::call_with_root(std::declval<F&>(),
                                                                        std::declval<nursery&>()))>;

// The function given to an entry point, and later its result.
template <typename F>
class root_main {
public:
    // f must outlive this object.
    explicit root_main(F& f) noexcept : f_(f) {}

    // Opens the root nursery, calls f in it, and waits for all children, as with_nursery does.
    // Parks: as with_nursery. Cancel: as with_nursery. Threads: the main fiber, inside
    // run_scheduler. Throws: what f and the children throw.
    void run(entry_point& entry) {
        nursery root = detail::nursery_access::open({.name = "root"}, entry.where_);
        struct at_end {
            entry_point& entry;
            nursery& root;
            ~at_end() { entry.root_ended(root); }
        } const last{entry, root};
        const auto body = [&](nursery& same) -> root_result<F> {
            entry.root_begins(same);
            return detail::call_with_root(f_, same);
        };
        const auto call = [&] { return detail::nursery_access::run(root, body); };
        detail::fill(value_, call);
    }

    // The result of f. Call it once, after a run() that has not thrown.
    root_result<F> result() { return detail::unfilled<root_result<F>>(value_); }

private:
    F& f_;
    std::optional<detail::filled<root_result<F>>> value_{};
};

} // namespace creel
