#include <creel/io/detail/socket/connect.hpp>
#include <creel/io/detail/socket/sockaddr.hpp>
#include <creel/io/detail/socket/socket_options.hpp>
#include <creel/io/error.hpp>

#include <cerrno>
#include <optional>

#include <fcntl.h>
#include <sys/socket.h>

namespace creel::io::detail {
namespace {

struct connecting : operation {
    connecting(ring& r, int socket, const endpoint& address) noexcept
        : operation(kind, r, socket), to(&address) {}

    static void describe(const waiter& w, std::string& text) {
        text += "connect to " + static_cast<const connecting&>(w).to->to_string();
    }
    static constexpr waiter_kind kind{&withdraw_operation, &connecting::describe, true};

    const endpoint* to;
};

struct socket_address {
    explicit socket_address(const endpoint& to) noexcept : length_bytes(sockaddr_of(to, storage)) {}

    [[nodiscard]] const sockaddr* get() const noexcept {
        return reinterpret_cast<const sockaddr*>(&storage);
    }

    sockaddr_storage storage;
    socklen_t length_bytes;
};

[[noreturn]] void throw_not_connected(int error_number, const endpoint& to) {
    throw_error(error_number, "connect to " + to.to_string());
}

[[nodiscard]] owned_fd socket_for(const endpoint& to, int family, const stream_options& options) {
    const int flags = family == AF_UNIX ? SOCK_NONBLOCK : 0;
    const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0)
        throw_not_connected(errno, to);
    owned_fd made{fd};
    if (const option_error error = set_options(fd, options))
        throw_error(error.error_number, "connect to " + to.to_string() + ": " + error.option);
    return owned_fd{made.release()};
}

// False: the server's backlog is full.
[[nodiscard]] bool connects_at_once(int fd, const socket_address& address, const endpoint& to) {
    int error_number = 0;
    do
        error_number = ::connect(fd, address.get(), address.length_bytes) == 0 ? 0 : errno;
    while (error_number == EINTR);
    if (error_number != 0 && error_number != EAGAIN)
        throw_not_connected(error_number, to);
    return error_number == 0;
}

// A Unix socket connects at once, or fails with EAGAIN when the backlog is full. So the kernel has
// nothing to wait for, and a system call costs the same as an entry of the ring.
//
// An entry would do harm: the kernel takes an unconnected socket for a ready one, so it would try a
// hundred times and then block one of its threads (io_arm_poll_handler() in io_uring/poll.c). No
// flag of a connect entry forbids that, as MSG_DONTWAIT does for other entries. Only O_NONBLOCK on
// the socket does. It is cleared once the socket is connected, because with it io_uring answers
// EAGAIN instead of waiting.
[[nodiscard]] owned_fd connect_locally(ring& r, const endpoint& to, const stream_options& options) {
    const socket_address address{to};
    check_cancel();
    std::optional<connect_lines::turn> turn;
    if (r.connects().is_waited_for(to))
        turn.emplace(r.connects(), to);
    owned_fd socket = socket_for(to, AF_UNIX, options);
    while (!connects_at_once(socket.get(), address, to)) {
        if (!turn)
            turn.emplace(r.connects(), to); // does not park: no fiber ran since is_waited_for()
        turn->pause();
    }
    if (turn)
        turn->had_room();
    if (::fcntl(socket.get(), F_SETFL, 0) < 0)
        throw_not_connected(errno, to);
    return owned_fd{socket.release()};
}

} // namespace

owned_fd connect(const endpoint& to, const stream_options& options) {
    ring& r = ring_for("connect");
    if (to.family() == address_family::local)
        return connect_locally(r, to, options);
    const socket_address address{to};
    for (;;) {
        check_cancel();
        if (!r.has_room()) [[unlikely]]
            r.make_room();
        owned_fd socket = socket_for(to, address.storage.ss_family, options);
        connecting op{r, socket.get(), to};
        r.perform(op, [&](io_uring_sqe& entry) {
            io_uring_prep_connect(&entry, op.fd, address.get(), address.length_bytes);
        });
        if (op.result >= 0)
            return owned_fd{socket.release()};
        if (op.was_cancelled())
            throw_cancelled();
        // An interrupted connect goes on in the kernel, on the old socket. A new one starts anew.
        if (op.result != -EINTR)
            throw_not_connected(-op.result, to);
    }
}

} // namespace creel::io::detail
