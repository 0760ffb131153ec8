#include <creel/fibers/error_policy.hpp>

#include <utility>

namespace creel {

error_policy collect() {
    error_policy policy;
    policy.kind_ = error_policy::kind_type::collect;
    return policy;
}

error_policy report(error_policy::handler handler) {
    error_policy policy;
    policy.kind_ = error_policy::kind_type::report;
    policy.handler_ = std::move(handler);
    return policy;
}

} // namespace creel
