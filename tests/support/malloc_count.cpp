#include "support/malloc_count.hpp"

#include <atomic>
#include <cstddef>

namespace {

std::atomic<std::uint64_t> calls{0};
constinit thread_local bool refuses = false;

} // namespace

std::uint64_t creel::test::malloc_calls() noexcept {
    return calls.load(std::memory_order_relaxed);
}

creel::test::no_memory::no_memory() noexcept {
    refuses = true;
}

creel::test::no_memory::~no_memory() {
    refuses = false;
}

#if !defined(CREEL_TEST_ASAN) && !defined(CREEL_TEST_TSAN)

// glibc's own names for its functions. malloc.h says that the functions may be replaced, and so
// does the GNU C Library manual, "Replacing malloc". free() is not replaced: the memory is glibc's.
extern "C" {

void* __libc_malloc(std::size_t bytes);                          // NOLINT
void* __libc_calloc(std::size_t count, std::size_t bytes);       // NOLINT
void* __libc_realloc(void* memory, std::size_t bytes);           // NOLINT
void* __libc_memalign(std::size_t alignment, std::size_t bytes); // NOLINT

void* malloc(std::size_t bytes) noexcept {
    calls.fetch_add(1, std::memory_order_relaxed);
    if (refuses)
        return nullptr;
    return __libc_malloc(bytes);
}

void* calloc(std::size_t count, std::size_t bytes) noexcept {
    calls.fetch_add(1, std::memory_order_relaxed);
    if (refuses)
        return nullptr;
    return __libc_calloc(count, bytes);
}

void* realloc(void* memory, std::size_t bytes) noexcept {
    calls.fetch_add(1, std::memory_order_relaxed);
    if (refuses)
        return nullptr;
    return __libc_realloc(memory, bytes);
}

void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
    calls.fetch_add(1, std::memory_order_relaxed);
    if (refuses)
        return nullptr;
    return __libc_memalign(alignment, bytes);
}
}

#endif
