// How often the process has been forked, counted in the children: what was made at another count is
// the parent's. It saves a getpid() at each call.
#pragma once

namespace creel::io::detail {

// Threads: any.
[[nodiscard]] unsigned fork_count() noexcept;

} // namespace creel::io::detail
