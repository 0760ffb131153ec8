#include <creel/io/detail/hangup_probe.hpp>

#include <creel/io/detail/descriptor.hpp>
#include <creel/io/detail/receive_buffers.hpp>
#include <creel/io/detail/ring_setup.hpp>

#include <atomic>
#include <cerrno>

#include <liburing.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace creel::io::detail {
namespace {

// Want of something that may be there later.
bool passes(int error_number) noexcept {
    switch (error_number) {
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOBUFS:
    case EADDRINUSE:
    case EADDRNOTAVAIL:
        return true;
    default:
        return false;
    }
}

std::optional<bool> failed(int error_number) noexcept {
    return passes(error_number) ? std::nullopt : std::optional{false};
}

// A TCP socket connected to itself, or -errno: no second one, and nobody listens.
int connected_to_itself() noexcept {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const timeval at_most{.tv_sec = 0, .tv_usec = 100'000}; // where a firewall drops it silently
    const linger leave_no_trace{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &at_most, sizeof at_most);
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &leave_no_trace, sizeof leave_no_trace);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* where = reinterpret_cast<sockaddr*>(&address);
    socklen_t length_bytes = sizeof address;
    if (::bind(fd, where, length_bytes) < 0 || ::getsockname(fd, where, &length_bytes) < 0 ||
        ::connect(fd, where, length_bytes) < 0) {
        const int reason = errno;
        ::close(fd);
        return -reason;
    }
    return fd;
}

struct own_ring {
    io_uring uring{};
    int error = 0; // negative: there is no ring

    own_ring() noexcept {
        io_uring_params parameters{};
        // With it the kernel looks only when we enter: after both events.
        parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        error = open_uring(uring, 4, parameters);
    }
    ~own_ring() {
        if (error == 0)
            close_uring(uring);
    }
    own_ring(const own_ring&) = delete;
    own_ring& operator=(const own_ring&) = delete;
};

bool message_comes(int fd) noexcept {
    pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
    return ::send(fd, "x", 1, MSG_NOSIGNAL) == 1 && ::poll(&ready, 1, 1000) == 1;
}

} // namespace

std::optional<bool> hangup_behind_message_is_seen(bool hang_up) noexcept {
    own_ring own;
    if (own.error != 0)
        return failed(-own.error);
    const owned_fd socket{connected_to_itself()};
    if (socket.get() < 0)
        return failed(-socket.get());
    const receive_buffers buffers{own.uring};
    if (!buffers.usable())
        return std::nullopt; // who asks has some, so that they are wanting only now
    io_uring_sqe* entry = io_uring_get_sqe(&own.uring);
    io_uring_prep_recv_multishot(entry, socket.get(), nullptr, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = receive_buffers::group;
    if (io_uring_submit(&own.uring) != 1 || !message_comes(socket.get()))
        return false;
    // Ends what is received as a reset does: no byte in the queue speaks of it.
    if (hang_up && ::shutdown(socket.get(), SHUT_RD) < 0)
        return false;
    for (;;) {
        __kernel_timespec at_most{.tv_sec = 0, .tv_nsec = 10'000'000};
        io_uring_cqe* done = nullptr;
        if (io_uring_wait_cqe_timeout(&own.uring, &done, &at_most) != 0)
            return false;
        const bool last = (done->flags & IORING_CQE_F_MORE) == 0;
        io_uring_cqe_seen(&own.uring, done);
        if (last)
            return true;
    }
}

std::optional<bool> kernel_sees_hangups() noexcept {
    enum answer : int { none, no, yes };
    static std::atomic<int> known{none};
    if (known.load() == none) {
        const std::optional<bool> seen = hangup_behind_message_is_seen();
        if (!seen)
            return std::nullopt;
        known.store(*seen ? yes : no);
    }
    return known.load() == yes;
}

} // namespace creel::io::detail
