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

// Of all mappings, touched or not. Allocates nothing. Throws: std::system_error without /proc.
[[nodiscard]] std::size_t address_space_bytes();

// Of this process from now on, as `ulimit -v`; RLIM_INFINITY: none. Sanitizers cannot live with it.
// Throws: std::system_error.
void limit_address_space(std::size_t bytes);

} // namespace creel::test
