#include <creel/io/detail/ring/hangup_probe.hpp>

#include <creel/io/detail/descriptor/descriptor.hpp>
#include <creel/io/detail/ring/receive_buffers.hpp>
#include <creel/io/detail/ring/ring_setup.hpp>

#include <array>
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

constexpr int most_tries = 100; // of 1 ms each, for each wait

// Something is lacking that may be there later.
bool is_temporary(int error_number) noexcept {
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

// Waits for 1 ms; a signal, or the end of an earlier ring, ends that sooner.
bool is_ready(int fd, short events) noexcept {
    pollfd ready{.fd = fd, .events = events, .revents = 0};
    return ::poll(&ready, 1, 1) == 1;
}

// After an interrupted connect, which goes on. Returns 0 or an error number.
int end_of_connect(int fd) noexcept {
    for (int i = 0; i < most_tries; ++i) {
        if (!is_ready(fd, POLLOUT))
            continue;
        int error_number = 0;
        socklen_t bytes = sizeof error_number;
        return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error_number, &bytes) < 0 ? errno
                                                                                 : error_number;
    }
    return ETIMEDOUT;
}

// A TCP socket connected to itself, or -errno. It needs no second socket, and none that listens.
int connected_to_itself() noexcept {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    const timeval at_most{.tv_sec = 0, .tv_usec = 100'000}; // if a firewall drops it silently
    const linger leave_no_trace{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &at_most, sizeof at_most);
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &leave_no_trace, sizeof leave_no_trace);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    auto* where = reinterpret_cast<sockaddr*>(&address);
    socklen_t length_bytes = sizeof address;
    int reason = 0;
    if (::bind(fd, where, length_bytes) < 0 || ::getsockname(fd, where, &length_bytes) < 0 ||
        ::connect(fd, where, length_bytes) < 0)
        reason = errno == EINTR ? end_of_connect(fd) : errno;
    if (reason == 0)
        return fd;
    ::close(fd);
    return -reason;
}

// What the kernel told of a message and of the end right behind it.
struct sight {
    bool of_end = false;
    bool of_rest = false; // the socket held more bytes than the kernel had given
};

struct own_ring {
    io_uring uring{};
    int error = 0; // negative: there is no ring

    own_ring() noexcept {
        io_uring_params parameters{};
        // The kernel looks only when we enter, which is after both events. Before, it says that it
        // wants to look.
        parameters.flags =
            IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
        error = open_uring(uring, 4, parameters);
    }
    ~own_ring() {
        if (error == 0)
            close_uring(uring);
    }
    own_ring(const own_ring&) = delete;
    own_ring& operator=(const own_ring&) = delete;

    [[nodiscard]] bool has_task_work() const noexcept {
        return (IO_URING_READ_ONCE(*uring.sq.kflags) & IORING_SQ_TASKRUN) != 0;
    }
};

// TCP's wake may come a while after the message, which can be received at once. Without this wait
// the end might wake the kernel first.
bool message_wakes(const own_ring& own, int sender, std::size_t bytes) noexcept {
    static constexpr std::array<char, receive_buffers::buffer_bytes + 1> message{};
    if (::send(sender, message.data(), bytes, MSG_NOSIGNAL) != static_cast<ssize_t>(bytes))
        return false;
    for (int i = 0; i < most_tries && !own.has_task_work(); ++i)
        ::poll(nullptr, 0, 1);
    return own.has_task_work();
}

// A multishot receive stands on `receiver`; then comes the message, and right behind it `end()`.
// None: it cannot be tried now.
template <typename End>
std::optional<sight> sight_of(int receiver, int sender, std::size_t bytes, End end) noexcept {
    own_ring own;
    if (own.error != 0)
        return is_temporary(-own.error) ? std::nullopt : std::optional{sight{}};
    const receive_buffers buffers{own.uring};
    if (!buffers.usable())
        return std::nullopt; // the ring that asks has some, so that they are lacking only now
    io_uring_sqe* entry = io_uring_get_sqe(&own.uring);
    io_uring_prep_recv_multishot(entry, receiver, nullptr, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = receive_buffers::group;
    if (io_uring_submit(&own.uring) != 1 || !message_wakes(own, sender, bytes) || !end())
        return sight{};
    // Both events have come: the kernel sees them now or never.
    while (io_uring_get_events(&own.uring) == -EINTR) {
    }
    sight seen;
    io_uring_cqe* done = nullptr;
    while (io_uring_peek_cqe(&own.uring, &done) == 0) {
        seen.of_end |= (done->flags & IORING_CQE_F_MORE) == 0;
        seen.of_rest |= (done->flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
        io_uring_cqe_seen(&own.uring, done);
    }
    return seen;
}

// The message is longer than a buffer, so that something is left.
std::optional<sight> sight_on_unix(bool hang_up) noexcept {
    std::array<int, 2> fds{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) < 0)
        return is_temporary(errno) ? std::nullopt : std::optional{sight{}};
    const owned_fd receiver{fds[0]};
    const owned_fd sender{fds[1]};
    return sight_of(receiver.get(), sender.get(), receive_buffers::buffer_bytes + 1,
                    [&] { return !hang_up || ::shutdown(sender.get(), SHUT_WR) == 0; });
}

std::optional<sight> sight_on_tcp(bool hang_up) noexcept {
    const owned_fd socket{connected_to_itself()};
    if (socket.get() < 0)
        return is_temporary(-socket.get()) ? std::nullopt : std::optional{sight{}};
    // Ends the receive as a reset does: nothing in the queue tells of the end.
    return sight_of(socket.get(), socket.get(), 1,
                    [&] { return !hang_up || ::shutdown(socket.get(), SHUT_RD) == 0; });
}

} // namespace

// The fault is the same for all sockets: io_poll_check_events() in io_uring/poll.c looks once for
// two wakes. It shows only if the receive then stops because the socket has said that it holds no
// more. Unix sockets say how much they hold since Linux 6.17 ("af_unix: Introduce SO_INQ"). Before,
// io_uring asks them until they have nothing, and so meets the end. TCP sockets have always said
// it, but need an address and a network that lets them through.
std::optional<bool> hangup_behind_message_is_seen(bool hang_up) noexcept {
    const std::optional<sight> seen = sight_on_unix(hang_up);
    if (seen && !seen->of_rest)
        return hangup_is_seen_on_tcp(hang_up);
    return seen ? std::optional{seen->of_end} : std::nullopt;
}

std::optional<bool> hangup_is_seen_on_tcp(bool hang_up) noexcept {
    const std::optional<sight> seen = sight_on_tcp(hang_up);
    return seen ? std::optional{seen->of_end} : std::nullopt;
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
