#include <creel/fibers/detail/system/fork_guard.hpp>

#include <creel/fibers/assert.hpp>

#include <array>
#include <cstddef>

#include <pthread.h>

namespace creel::detail {

namespace {

// Written while the program starts and has one thread.
constinit std::array<std::mutex*, 8> guarded_mutexes{};
constinit std::size_t guarded_count = 0;

void lock_all() noexcept {
    for (std::size_t i = 0; i < guarded_count; ++i)
        guarded_mutexes[i]->lock();
}
void unlock_all() noexcept {
    for (std::size_t i = guarded_count; i > 0; --i)
        guarded_mutexes[i - 1]->unlock();
}

} // namespace

fork_guard::fork_guard(std::mutex& guarded) noexcept {
    CREEL_ASSERT(guarded_count < guarded_mutexes.size(), "too many mutexes of the whole process");
    // Fails only without memory, as the program starts.
    if (guarded_count == 0)
        static_cast<void>(::pthread_atfork(&lock_all, &unlock_all, &unlock_all));
    guarded_mutexes[guarded_count++] = &guarded;
}

} // namespace creel::detail
