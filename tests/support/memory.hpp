// The memory of this process, as the kernel reports it: for tests that memory is given back.
#pragma once

#include <cstddef>

namespace creel::test {

// Returns the resident memory, from /proc/self/statm. The kernel adds per-CPU counters and may be
// some dozens of pages late (proc(5) calls the value inaccurate), so leave a margin in comparisons.
// Allocates nothing. Threads: any. Throws: std::system_error without /proc.
[[nodiscard]] std::size_t resident_bytes();

// Returns the number of mappings, which are the lines of /proc/self/maps; vm.max_map_count limits
// it. It is exact if no other thread maps memory at the same time. Allocates nothing. Threads: any.
// Throws: std::system_error without /proc.
[[nodiscard]] std::size_t mapping_count();

// Returns the size of all mappings, touched or not. Allocates nothing. Throws: std::system_error
// without /proc.
[[nodiscard]] std::size_t address_space_bytes();

// Limits the address space of this process from now on, as `ulimit -v` does. RLIM_INFINITY is no
// limit. Sanitizers do not work with a limit. Throws: std::system_error.
void limit_address_space(std::size_t bytes);

} // namespace creel::test
