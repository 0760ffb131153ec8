// What the kernel says this process uses: for tests that memory comes back.
#pragma once

#include <cstddef>

namespace creel::test {

// Resident memory, from /proc/self/statm. The kernel sums it from per-CPU counters and may be some
// dozens of pages behind (proc(5) calls the value inaccurate), so compare with room to spare.
// Allocates nothing. Threads: any. Throws: std::system_error without /proc.
[[nodiscard]] std::size_t resident_bytes();

// The number of mappings, lines of /proc/self/maps: what vm.max_map_count limits. Exact while no
// other thread maps. Allocates nothing. Threads: any. Throws: std::system_error without /proc.
[[nodiscard]] std::size_t mapping_count();

} // namespace creel::test
