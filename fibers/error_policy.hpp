// error_policy: what the error of a child does to its nursery.
#pragma once

#include <creel/fibers/task_info.hpp>

#include <concepts>
#include <exception>
#include <functional>
#include <utility>

namespace creel {

class error_policy;
class nursery;

namespace detail {
struct nursery_core;
using report_handler = std::function<void(nursery&, std::exception_ptr, const task_info&)>;
[[nodiscard]] error_policy report_to(report_handler handler);
} // namespace detail

class error_policy {
public:
    enum class kind_type : unsigned char { cancel, collect, report };

    // The default: the first failure cancels the siblings.
    error_policy() = default;

    [[nodiscard]] kind_type kind() const noexcept { return kind_; }

private:
    friend error_policy collect();
    friend error_policy detail::report_to(detail::report_handler);
    friend struct detail::nursery_core;

    kind_type kind_ = kind_type::cancel;
    detail::report_handler handler_{};
};

// The siblings go on. All errors are thrown at the end: a single error as it is, several as an
// exception_group. A `cancelled` that no scope absorbs is thrown only if there is no other error.
// For nurseries of bounded size, because all errors are kept until the end.
[[nodiscard]] error_policy collect();

// For servers: the error of a child goes to the handler at once, is stored nowhere and cancels no
// sibling. Without a handler one line goes to stderr. The error of the body still cancels the
// children and is thrown.
//
// The handler is void(std::exception_ptr, const task_info&), or takes the nursery& first. It runs
// on the fiber of the failed child, when everything that the child owned is destroyed and its place
// among max_children is free, but before the nursery counts it as ended. So the handler may spawn
// another child in its place, as supervisors do, or fail() the nursery to escalate. It may wait,
// sees the child's locals, may drop the child's task<R>, and holds up the end of the nursery and
// get(). A child whose handler runs does not count among max_children; calls of spawn that wait for
// a place get it before a child that the handler spawns.
// If a handler throws `cancelled`, as its waits do when the nursery is cancelled, its child counts
// as ended with `cancelled`. Any other exception of a handler ends the process. An empty
// std::function is the same as no handler.
[[nodiscard]] error_policy report();
[[nodiscard]] error_policy
report(std::function<void(std::exception_ptr, const task_info&)> handler);
template <std::invocable<nursery&, std::exception_ptr, const task_info&> F>
    requires(!std::invocable<F&, std::exception_ptr, const task_info&>)
[[nodiscard]] error_policy report(F handler) {
    return detail::report_to(std::move(handler));
}
template <std::invocable<std::exception_ptr, const task_info&> F>
[[nodiscard]] error_policy report(F handler) {
    return report(std::function<void(std::exception_ptr, const task_info&)>{std::move(handler)});
}

} // namespace creel
