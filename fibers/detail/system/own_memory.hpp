// Memory of this process that may be gone, or may change, while it is read.
#pragma once

#include <cstddef>
#include <span>

namespace creel::detail {

// The kernel copies it (process_vm_readv(2)): what is not there is an error and no fault. False if
// not all of it is there, or if a sandbox forbids the call. Threads: any; signal handlers may.
[[nodiscard]] bool copy_memory(const void* from, std::span<std::byte> to) noexcept;

} // namespace creel::detail
