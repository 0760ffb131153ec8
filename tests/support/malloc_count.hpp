// Counts every call of malloc and its kin in the process, and can refuse them: for tests that
// something allocates nothing, or lives with that. The test program's own malloc stands in front of
// the C library's.
#pragma once

#include "support/sanitizers.hpp"

#include <cstdint>

namespace creel::test {

// A sanitizer brings a malloc of its own; then nothing is counted.
inline constexpr bool counts_malloc = !under_asan && !under_tsan;

// Calls so far of malloc, calloc, realloc and aligned_alloc, and so of operator new, by any thread.
[[nodiscard]] std::uint64_t malloc_calls() noexcept;

// While there is one, no allocation of the thread that made it succeeds. Check nothing meanwhile:
// Catch needs memory. Does nothing where nothing is counted.
class no_memory {
public:
    no_memory() noexcept;
    ~no_memory();
    no_memory(const no_memory&) = delete;
    no_memory& operator=(const no_memory&) = delete;
};

} // namespace creel::test
