#include <creel/io/detail/ring/operation.hpp>
#include <creel/io/detail/ring/ring.hpp>

#include <cerrno>

namespace creel::io::detail {

bool operation::was_cancelled() const noexcept {
    return result == -ECANCELED && withdraw_requested();
}

int operation::take_descriptor() noexcept {
    on->descriptor_taken();
    return result;
}

withdrawal withdraw_operation(waiter& w, wake_reason) noexcept {
    auto& op = static_cast<operation&>(w);
    op.on->cancel(op);
    return withdrawal::pending;
}

} // namespace creel::io::detail
