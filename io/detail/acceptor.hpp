// The record behind a listener: one accept that keeps delivering, and who waits for it.
//
// The first accept() arms a multishot accept (one entry, a completion per connection). Connections
// that come while nobody waits are queued here; at a bound the kernel is told to stop, and its own
// backlog holds the rest until the queue is empty. So a stalled program accepts a bounded number.
#pragma once

#include <creel/io/detail/descriptor.hpp>

#include <cstddef>
#include <deque>

namespace creel::io::detail {

class acceptor final : public descriptor {
public:
    // Takes the descriptor over, also when it throws. Throws: std::bad_alloc.
    static acceptor* adopt(owned_fd fd);

    // A connected descriptor. Parks: until there is one, first come first served. Cancel: yes,
    // then none was taken. Throws: std::system_error.
    [[nodiscard]] owned_fd accept();

private:
    struct accept_waiter;
    struct armed_accept : completion_target, sqe_request {
        acceptor* self = nullptr;
    };
    struct membership : ring_member {
        acceptor* self = nullptr;
    };

    static constexpr std::size_t queue_limit = 128;

    explicit acceptor(int fd);
    ~acceptor() = default;

    void arm();
    void disarm() noexcept;
    void completed(int result, unsigned flags) noexcept;
    void deliver(int connected) noexcept;
    void close_queued() noexcept;
    void tell_all(int error) noexcept;

    static void interrupt(descriptor& d) noexcept;
    static void let_go(descriptor& d, detail::mail& done) noexcept;
    static void destroy(descriptor& d) noexcept;
    static const waiter* first_wait(descriptor& d) noexcept;
    static const descriptor_kind kind;

    ring* where_ = nullptr; // from the first accept to the end of that ring
    armed_accept accept_{};
    cancel_request cancel_{};
    membership member_{};
    bool armed_ = false;      // requested of the ring or in the kernel's hands
    bool cancelling_ = false; // the kernel has been told to stop, or will be
    bool multishot_ = true;   // false once the kernel has refused it
    std::deque<int> queue_{}; // connected, taken by nobody
    circle<accept_waiter> waiters_{};
};

} // namespace creel::io::detail
