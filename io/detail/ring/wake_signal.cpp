#include <creel/io/detail/ring/wake_signal.hpp>

#include <creel/io/detail/ring/kernel_ring.hpp>
#include <creel/io/detail/ring/ring_setup.hpp>

#include <cerrno>

#include <unistd.h>

namespace creel::io::detail {

wake_signal::wake_signal(kernel_ring& kernel) noexcept
    : kernel_(kernel),
      takes_messages_(kernel_sends_messages() && !is_withheld(newer_feature::message)) {}

// A message is the cheapest. Measured in docs/rationale.md.
//
// The descriptors are those of no other ring: no thread calls this while the ring is destroyed (see
// inbox::kick() and ring_inbox::post()).
void wake_signal::send() noexcept {
    const int saved = errno;
    if (takes_messages_) {
        if (message_under_way_.exchange(true) || send_message(kernel_.uring().ring_fd, message)) {
            errno = saved;
            return;
        }
        message_under_way_.exchange(false); // the kernel has no memory
    }
    const std::uint64_t one = 1;
    // An eventfd counts, so it cannot fail for being full; the count latches the wake.
    [[maybe_unused]] const ssize_t written = ::write(kernel_.wake_descriptor(), &one, sizeof one);
    errno = saved;
}

} // namespace creel::io::detail
