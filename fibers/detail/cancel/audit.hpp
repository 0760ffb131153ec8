// The audit of cancels that a fiber swallows, and what debug mode needs for its messages.
#pragma once

#include <creel/fibers/detail/cancel/scope_core.hpp>
#include <creel/fibers/waiter.hpp>

#include <string>

namespace creel::detail {

// True if the environment has CREEL_DEBUG=1.
[[nodiscard]] bool debug_is_in_environment() noexcept;

// A wait of the fiber `p` is about to throw `cancelled` for the scope `absorber`; null if none is
// known. Counts it if the fiber has swallowed the one before, and names the fiber in debug mode.
// Threads: the fiber's.
void audit_throw(parker& p, const scope_core* absorber) noexcept;

// "worker (#17, spawned at server.cpp:42)". Of a fiber of another thread it reads nothing that may
// change, and says only that: "another's fiber". Without memory: "a fiber".
[[nodiscard]] std::string name_of(const parker& p) noexcept;

} // namespace creel::detail
