// The audit of cancels that a fiber swallows, and two functions that debug mode needs.
#pragma once

#include <creel/fibers/detail/cancel/scope_core.hpp>
#include <creel/fibers/waiter.hpp>

#include <memory>
#include <string>
#include <string_view>

namespace creel::detail {

// True if the environment has CREEL_DEBUG=1.
[[nodiscard]] bool debug_is_in_environment() noexcept;

// A wait of the fiber `p` is about to throw `cancelled` for the scope `absorber`; null if none is
// known. Counts the wait if the fiber has swallowed the `cancelled` before, and names the fiber in
// debug mode.
// Threads: the fiber's.
void audit_throw(parker& p, const scope_core* absorber) noexcept;

// The reason for the `cancelled` that the wait throws then. In debug mode it notes the place, and
// the result tells the audit whether the exception lives on: code that has kept it, for example in
// a promise, has not swallowed it. Threads: the fiber's.
[[nodiscard]] std::shared_ptr<const cancel_reason>
reason_to_throw(parker& p, const std::shared_ptr<const cancel_reason>& reason) noexcept;

// The task of the carrier `p` has ended. If it has `returned` although a wait has thrown
// `cancelled` for a scope around it, and the exception is gone, it is named in debug mode.
// Threads: the fiber's.
void audit_end(parker& p, bool returned) noexcept;

// Where the last wait of this fiber threw `cancelled`, in debug mode: "    f() at a.cpp:1\n", each
// line begins with `indent`. Empty if that is not known. Threads: the fiber's. Cost: a thread.
[[nodiscard]] std::string last_cancelled_throw(const parker& p, std::string_view indent) noexcept;

// "worker (#17, spawned at server.cpp:42)". For a fiber of another thread it reads nothing that may
// change, and returns "another's fiber". Without memory: "a fiber".
[[nodiscard]] std::string name_of(const parker& p) noexcept;

} // namespace creel::detail
