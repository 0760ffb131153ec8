// Counts each call of malloc and related functions in the process, and can refuse them: for tests
// that code allocates nothing, or works when it cannot allocate. The test program has a malloc of
// its own, which replaces that of the C library and calls it.
#pragma once

#include "support/sanitizers.hpp"

#include <cstdint>

namespace creel::test {

// A sanitizer has a malloc of its own. With it nothing is counted.
inline constexpr bool counts_malloc = !under_asan && !under_tsan;

// Returns the number of calls so far of malloc, calloc, realloc and aligned_alloc, and so of
// operator new, by all threads.
[[nodiscard]] std::uint64_t malloc_calls() noexcept;

// While such an object exists, no allocation of its thread succeeds. Use no check during that time:
// Catch needs memory. It has no effect where nothing is counted.
class no_memory {
public:
    no_memory() noexcept;
    ~no_memory();
    no_memory(const no_memory&) = delete;
    no_memory& operator=(const no_memory&) = delete;
};

} // namespace creel::test
