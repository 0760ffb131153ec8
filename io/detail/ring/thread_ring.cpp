#include <creel/io/detail/ring/thread_ring.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/io/detail/ring/ring.hpp>

#include <source_location>
#include <string>

#include <pthread.h>

namespace creel::io {
namespace detail {
namespace {

// A forked child has none of its parent's rings. Fails only without memory, as the program starts.
[[maybe_unused]] const int forgets_ring_in_forks =
    ::pthread_atfork(nullptr, nullptr, [] { this_ring = nullptr; });

} // namespace

constinit thread_local ring* this_ring = nullptr;

void set_current_ring(ring* r) noexcept {
    this_ring = r;
}

void no_ring(const char* call) noexcept {
    const std::string message =
        std::string{call} + ": called on a thread without a ring; call it inside io::run()";
    assertion_failed("current_ring() != nullptr", message.c_str(), std::source_location::current());
}

ring_statistics& last_statistics() noexcept {
    static constinit thread_local ring_statistics last{};
    return last;
}

} // namespace detail

ring_statistics statistics() noexcept {
    const detail::ring* r = detail::current_ring();
    return r != nullptr ? r->statistics() : detail::last_statistics();
}

} // namespace creel::io
