// How often the process has been forked, counted in the children. An object that was made at
// another count belongs to the parent. Comparing counts saves a getpid() at each call.
#pragma once

namespace creel::io::detail {

// Threads: any.
[[nodiscard]] unsigned fork_count() noexcept;

} // namespace creel::io::detail
