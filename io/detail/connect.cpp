#include <creel/io/detail/connect.hpp>
#include <creel/io/detail/sockaddr.hpp>
#include <creel/io/error.hpp>

#include <cerrno>

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

} // namespace

owned_fd connect(const endpoint& to) {
    ring& r = ring_for("connect");
    sockaddr_storage address;
    const socklen_t length_bytes = sockaddr_of(to, address);
    for (;;) {
        check_cancel();
        if (!r.has_room()) [[unlikely]]
            r.make_room();
        const int socket = ::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (socket < 0)
            throw_error(errno, "connect to " + to.to_string());
        owned_fd connected{socket};
        connecting op{r, socket, to};
        r.perform(op, [&](io_uring_sqe& entry) {
            io_uring_prep_connect(&entry, socket, reinterpret_cast<const sockaddr*>(&address),
                                  length_bytes);
            // A full backlog of a Unix socket cannot be polled for: the kernel would try a hundred
            // times before one of its threads waits, and a cancel in between finds nothing.
            if (address.ss_family == AF_UNIX)
                entry.flags |= IOSQE_ASYNC;
        });
        if (op.result >= 0)
            return owned_fd{connected.release()};
        if (op.was_cancelled())
            throw_cancelled();
        // A connect that was interrupted goes on in the kernel; a fresh socket starts anew.
        if (op.result != -EINTR)
            throw_error(-op.result, "connect to " + to.to_string());
    }
}

} // namespace creel::io::detail
