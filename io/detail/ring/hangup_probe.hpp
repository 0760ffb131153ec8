// Does the kernel tell a receive that stands of everything?
//
// Woken for a message and for what comes right behind it before it has looked once, many kernels
// look once only: a multishot receive then never ends, for a reset or a shutdown makes no further
// wake. The fix is "io_uring/poll: fix multishot recv missing EOF on wakeup race" (March 2026, in
// stable kernels too, so that no version tells); github.com/axboe/liburing/issues/1549.
#pragma once

#include <optional>

namespace creel::io::detail {

// Tries it, on sockets of its own: Unix ones, or, where these cannot show it (before Linux 6.17), a
// TCP socket connected to itself. False also where it cannot be tried, such as behind a firewall;
// none where it cannot be tried now, for want of descriptors, ports or memory. With `hang_up` false
// nothing comes behind the message: what a kernel without the fix makes of it.
// Cost: 0.1 ms, and at most 0.2 s where TCP is tried and the network drops it.
[[nodiscard]] std::optional<bool> hangup_behind_message_is_seen(bool hang_up = true) noexcept;

// What it tries where Unix sockets cannot show it.
[[nodiscard]] std::optional<bool> hangup_is_seen_on_tcp(bool hang_up = true) noexcept;

// The answer, tried for until there is one, which then holds for the life of the process. The first
// ring of the process asks, so that no fiber waits for it: also a run that receives nothing pays
// that once.
// Threads: any.
[[nodiscard]] std::optional<bool> kernel_sees_hangups() noexcept;

} // namespace creel::io::detail
