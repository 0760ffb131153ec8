// The ring of the calling thread.
#pragma once

#include <creel/io/statistics.hpp>

namespace creel::io::detail {

class ring;

// Null: the thread has no ring. Read directly, also across switches: fibers never move between
// threads, so an address that the compiler has cached stays right.
extern constinit thread_local ring* this_ring;

[[nodiscard]] inline ring* current_ring() noexcept {
    return this_ring;
}
void set_current_ring(ring* r) noexcept;

// Ends the process with a message that names the call: the thread has no ring.
[[noreturn]] void no_ring(const char* call) noexcept;

// The calling thread's ring, or no_ring().
[[nodiscard]] inline ring& ring_for(const char* call) noexcept {
    ring* r = current_ring();
    if (r == nullptr) [[unlikely]]
        no_ring(call);
    return *r;
}

// The counters that the last run on this thread ended with.
[[nodiscard]] ring_statistics& last_statistics() noexcept;

} // namespace creel::io::detail
