// What debug mode and the audit of cancels need beside the scheduler.
#pragma once

#include <creel/fibers/waiter.hpp>

#include <string>

namespace creel::detail {

// CREEL_DEBUG=1
[[nodiscard]] bool debug_is_in_environment() noexcept;

// "worker (#17, spawned at server.cpp:42)"; of another thread's, for which nothing is read that it
// may change, only that it is one. Without memory: "a fiber".
[[nodiscard]] std::string name_of(const parker& who) noexcept;

} // namespace creel::detail
