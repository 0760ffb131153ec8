// What debug mode and the audit of cancels need beside the scheduler.
#pragma once

#include <creel/fibers/waiter.hpp>

#include <string>

namespace creel::detail {

// CREEL_DEBUG=1
[[nodiscard]] bool debug_is_in_environment() noexcept;

// From now on a `cancelled` that ends the process, because it left a destructor or another noexcept
// function, is first named on stderr with its fiber. The previous terminate handler is called then.
// Threads: any.
void name_unhandled_cancels() noexcept;

// "worker (#17, spawned at server.cpp:42)"; of another thread's, for which nothing is read that it
// may change, only that it is one. Without memory: "a fiber".
[[nodiscard]] std::string name_of(const parker& who) noexcept;

} // namespace creel::detail
