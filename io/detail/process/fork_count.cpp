#include <creel/io/detail/process/fork_count.hpp>

#include <atomic>

#include <pthread.h>

namespace creel::io::detail {
namespace {

constinit std::atomic<unsigned> forks{0}; // relaxed: it changes only while there is one thread

// Registration fails only without memory, at the start of the program.
[[maybe_unused]] const int counts_forks =
    ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });

} // namespace

unsigned fork_count() noexcept {
    return forks.load(std::memory_order_relaxed);
}

} // namespace creel::io::detail
