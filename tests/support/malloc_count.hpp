// Counts every call of malloc and its kin in the process: for tests that something allocates
// nothing. The test program's own malloc stands in front of the C library's.
#pragma once

#include "support/sanitizers.hpp"

#include <cstdint>

namespace creel::test {

// A sanitizer brings a malloc of its own; then nothing is counted.
inline constexpr bool counts_malloc = !under_asan && !under_tsan;

// Calls so far of malloc, calloc, realloc and aligned_alloc, and so of operator new, by any thread.
[[nodiscard]] std::uint64_t malloc_calls() noexcept;

} // namespace creel::test
