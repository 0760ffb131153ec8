// Does the kernel tell a standing receive of every end?
//
// A message may wake the kernel, and the end of the stream may wake it again before it has looked
// once. Many kernels then look only once. Then the multishot receive never ends, because a reset or
// a shutdown makes no further wake. The fix is "io_uring/poll: fix multishot recv missing EOF on
// wakeup race" (March 2026). Stable kernels have it too, so the version does not tell. See
// github.com/axboe/liburing/issues/1549.
#pragma once

#include <optional>

namespace creel::io::detail {

// Tries that on sockets of its own: Unix sockets, or a TCP socket connected to itself if Unix
// sockets cannot show it (before Linux 6.17). Also false if it cannot be tried, for example behind
// a firewall. Empty if it cannot be tried now: there are no descriptors, ports or memory. With
// `hang_up` false there is no end behind the message, and the answer is that of a kernel without
// the fix. Cost: 0.1 ms; at most 0.2 s if it tries TCP and the network drops the packets.
[[nodiscard]] std::optional<bool> hangup_behind_message_is_seen(bool hang_up = true) noexcept;

// The trial on TCP.
[[nodiscard]] std::optional<bool> hangup_is_seen_on_tcp(bool hang_up = true) noexcept;

// The answer. Tries until there is one, which then holds for the life of the process. The first
// ring of the process asks, so that no fiber waits for the trial. So even a run that receives
// nothing pays for it once. Threads: any.
[[nodiscard]] std::optional<bool> kernel_sees_hangups() noexcept;

} // namespace creel::io::detail
