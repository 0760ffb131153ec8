// The threads of the process that are not creel's own.
#pragma once

namespace creel::detail {

// False if every other thread of the process is one that creel, or the kernel for its ring, has
// started; also true if that cannot be found out. Threads: any. Cost: reads some files of /proc for
// each thread.
[[nodiscard]] bool has_foreign_threads() noexcept;

} // namespace creel::detail
