// A library for LD_PRELOAD that counts the allocations of a program, in a page that the driver
// reads. The driver passes the number of the page's descriptor in the environment. operator new
// ends in malloc, and so is counted once.

#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <sys/mman.h>
#include <unistd.h>

// glibc's own names of the functions that this library replaces.
extern "C" {
void* __libc_malloc(std::size_t bytes);
void* __libc_calloc(std::size_t count, std::size_t bytes);
void* __libc_realloc(void* memory, std::size_t bytes);
void* __libc_memalign(std::size_t alignment, std::size_t bytes);
}

namespace {

using counter = std::atomic<std::uint64_t>;
static_assert(counter::is_always_lock_free);

// The loader and other libraries allocate before this library is initialised, and there may be no
// environment then. These allocations are counted here.
constinit counter early{0};
constinit std::atomic<counter*> shared{&early};

void count() noexcept {
    shared.load(std::memory_order_relaxed)->fetch_add(1, std::memory_order_relaxed);
}

[[gnu::constructor]] void share() noexcept {
    const char* const text = std::getenv("CREEL_SAME_JOB_ALLOCATIONS");
    int fd = -1;
    if (text == nullptr || std::from_chars(text, text + std::strlen(text), fd).ec != std::errc{})
        return;
    void* const page = mmap(nullptr, sizeof(counter), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd); // the program has the same descriptors as without this library
    if (page == MAP_FAILED)
        return;
    auto* const mapped = static_cast<counter*>(page);
    mapped->store(early.load(std::memory_order_relaxed), std::memory_order_relaxed);
    shared.store(mapped, std::memory_order_relaxed);
}

} // namespace

extern "C" {

[[gnu::visibility("default")]] void* malloc(std::size_t bytes) noexcept {
    count();
    return __libc_malloc(bytes);
}

[[gnu::visibility("default")]] void* calloc(std::size_t number, std::size_t bytes) noexcept {
    count();
    return __libc_calloc(number, bytes);
}

[[gnu::visibility("default")]] void* realloc(void* memory, std::size_t bytes) noexcept {
    count();
    return __libc_realloc(memory, bytes);
}

[[gnu::visibility("default")]] void* memalign(std::size_t alignment, std::size_t bytes) noexcept {
    count();
    return __libc_memalign(alignment, bytes);
}

[[gnu::visibility("default")]] void* aligned_alloc(std::size_t alignment,
                                                   std::size_t bytes) noexcept {
    count();
    return __libc_memalign(alignment, bytes);
}

[[gnu::visibility("default")]] int posix_memalign(void** memory, std::size_t alignment,
                                                  std::size_t bytes) noexcept {
    if (alignment % sizeof(void*) != 0 || (alignment & (alignment - 1)) != 0 || alignment == 0)
        return EINVAL;
    count();
    void* const got = __libc_memalign(alignment, bytes);
    if (got == nullptr)
        return ENOMEM;
    *memory = got;
    return 0;
}

} // extern "C"
