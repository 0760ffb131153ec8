#include <creel/fibers/error_policy.hpp>

#include <utility>

namespace creel {

error_policy collect() {
    error_policy policy;
    policy.kind_ = error_policy::kind_type::collect;
    return policy;
}

error_policy report() {
    return detail::report_to({});
}

error_policy report(std::function<void(std::exception_ptr, const task_info&)> handler) {
    if (!handler)
        return report();
    return detail::report_to(
        [f = std::move(handler)](nursery&, std::exception_ptr error, const task_info& child) {
            f(std::move(error), child);
        });
}

error_policy detail::report_to(report_handler handler) {
    error_policy policy;
    policy.kind_ = error_policy::kind_type::report;
    policy.handler_ = std::move(handler);
    return policy;
}

} // namespace creel
