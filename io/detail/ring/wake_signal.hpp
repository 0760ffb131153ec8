// How another thread ends the wait of a ring: by a message, which is a completion that the kernel
// puts into the ring, or by an eventfd, which the ring reads.
//
//     no message ── 1 send() ──► under way ── 2 message_reaped() ──► no message
//                                    └─────── 3 send(): the kernel refuses ──► no message
//
// A send() that finds a message under way does nothing more. No wake is lost by that: the thread
// has made its work known before its exchange in 1. The exchange in 2 or 3 comes later in the order
// of the flag, and so its thread sees the work: in 2 the ring looks for work behind it, in 3 the
// sender writes to the eventfd, and the ring looks for work when it has read that.
#pragma once

#include <atomic>
#include <cstdint>

namespace creel::io::detail {

class kernel_ring;

class wake_signal {
public:
    explicit wake_signal(kernel_ring& kernel) noexcept;
    wake_signal(const wake_signal&) = delete;
    wake_signal& operator=(const wake_signal&) = delete;

    // Latched: if there is no wait, it ends the next wait. Must not be called while the ring is
    // destroyed. Keeps errno.
    // Threads: any. Cost: a system call, or none if a message is under way.
    void send() noexcept;

    // The reaper has found the message; the ring looks for work after this. Threads: the ring's.
    void message_reaped() noexcept { message_under_way_.exchange(false); }

    static constexpr std::uint64_t message = 3; // its user_data

private:
    kernel_ring& kernel_; // in a forked child its descriptors are -1
    const bool takes_messages_;
    std::atomic<bool> message_under_way_{false};
};

} // namespace creel::io::detail
