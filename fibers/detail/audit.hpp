// What debug mode and the audit of cancels need beside the scheduler.
#pragma once

namespace creel::detail {

// CREEL_DEBUG=1
[[nodiscard]] bool debug_is_in_environment() noexcept;

// From now on a `cancelled` that ends the process, because it left a destructor or another noexcept
// function, is first named on stderr with its fiber. The previous terminate handler is called then.
// Threads: any.
void name_unhandled_cancels() noexcept;

} // namespace creel::detail
