// The audit of cancels that a fiber swallows, and two functions that debug mode needs.
#pragma once

#include <creel/fibers/detail/cancel/scope_core.hpp>
#include <creel/fibers/waiter.hpp>

#include <string>

namespace creel::detail {

// True if the environment has CREEL_DEBUG=1.
[[nodiscard]] bool debug_is_in_environment() noexcept;

// A wait of the fiber `p` is about to throw `cancelled` for the scope `absorber`; null if none is
// known. Counts the wait if the fiber has swallowed the `cancelled` before, and names the fiber in
// debug mode.
// Threads: the fiber's.
void audit_throw(parker& p, const scope_core* absorber) noexcept;

// "worker (#17, spawned at server.cpp:42)". For a fiber of another thread it reads nothing that may
// change, and returns "another's fiber". Without memory: "a fiber".
[[nodiscard]] std::string name_of(const parker& p) noexcept;

} // namespace creel::detail
