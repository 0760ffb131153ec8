// What debug mode and the audit of cancels need beside the scheduler.
#pragma once

#include <creel/fibers/detail/cancel/scope_core.hpp>
#include <creel/fibers/waiter.hpp>

#include <string>

namespace creel::detail {

// CREEL_DEBUG=1
[[nodiscard]] bool debug_is_in_environment() noexcept;

// The fiber is about to be thrown `cancelled` for the scope `absorber`, null if none is known.
// Counts it, and names the fiber in debug mode, if it has swallowed the last one. Threads: the
// fiber's.
void audit_throw(parker& thrown_in, const scope_core* absorber) noexcept;

// "worker (#17, spawned at server.cpp:42)"; of another thread's, for which nothing is read that it
// may change, only that it is one. Without memory: "a fiber".
[[nodiscard]] std::string name_of(const parker& who) noexcept;

} // namespace creel::detail
