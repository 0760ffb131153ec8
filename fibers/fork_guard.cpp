#include <creel/fibers/fork_guard.hpp>

#include <creel/fibers/assert.hpp>

#include <array>
#include <cstddef>

#include <pthread.h>

namespace creel {

namespace {

struct guarded_mutex {
    std::mutex* mutex;
    void (*in_child)() noexcept;
};

// Written as the program starts, while there is one thread.
constinit std::array<guarded_mutex, 16> guarded_mutexes{};
constinit std::size_t guarded_count = 0;

void lock_guarded() noexcept {
    for (std::size_t i = guarded_count; i > 0; --i)
        guarded_mutexes[i - 1].mutex->lock();
}
void unlock_guarded() noexcept {
    for (std::size_t i = 0; i < guarded_count; ++i)
        guarded_mutexes[i].mutex->unlock();
}
void begin_child() noexcept {
    unlock_guarded();
    for (std::size_t i = 0; i < guarded_count; ++i)
        if (guarded_mutexes[i].in_child != nullptr)
            guarded_mutexes[i].in_child();
}

} // namespace

fork_guard::fork_guard(std::mutex& guarded, void (*in_child)() noexcept) noexcept {
    CREEL_ASSERT(guarded_count < guarded_mutexes.size(), "too many mutexes of the whole process");
    // Fails only without memory, as the program starts.
    if (guarded_count == 0)
        static_cast<void>(::pthread_atfork(&lock_guarded, &unlock_guarded, &begin_child));
    guarded_mutexes[guarded_count++] = {&guarded, in_child};
}

} // namespace creel
