#include <creel/io/detail/ring/operation.hpp>
#include <creel/io/detail/ring/ring.hpp>

#include <cerrno>
#include <cstddef>

namespace creel::io::detail {

// For tools/gdb/creel-gdb.py: how it tells an operation from other waiters, and the place of its
// descriptor.
struct debugger_operation {
    withdrawal (*withdraw)(waiter&, wake_reason) noexcept;
    std::size_t fd;
};

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

#pragma GCC diagnostic ignored "-Winvalid-offsetof" // its bases are not virtual
extern "C" const creel::io::detail::debugger_operation creel_debugger_operation;
[[gnu::used,
  gnu::retain]] constinit const creel::io::detail::debugger_operation creel_debugger_operation{
    &creel::io::detail::withdraw_operation, offsetof(creel::io::detail::operation, fd)};
