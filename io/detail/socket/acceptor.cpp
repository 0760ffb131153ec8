#include <creel/io/detail/socket/acceptor.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/io/error.hpp>

#include <cerrno>
#include <string>

#include <poll.h>
#include <sys/socket.h>

namespace creel::io::detail {
namespace {

// A connection that failed before it was accepted; the next may be well. accept(2), "Error
// handling", lists them.
bool concerns_one_connection(int error_number) noexcept {
    switch (error_number) {
    case ECONNABORTED:
    case EINTR:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ENONET:
        return true;
    default:
        return false;
    }
}

void describe_accept(const waiter& w, std::string& text) {
    text += "accept on " + local_name(static_cast<const operation&>(w).fd);
}

constexpr waiter_kind accept_kind{&withdraw_operation, &describe_accept, true};

} // namespace

const descriptor_kind acceptor::kind{
    "listener", [](descriptor&) noexcept {}, &acceptor::let_go,
    [](descriptor& d) noexcept { delete &static_cast<acceptor&>(d); }};

acceptor* acceptor::adopt(owned_fd fd) {
    auto* made = new acceptor(fd.get());
    fd.release();
    return made;
}

// The kernel wakes one accept for each connection (EPOLLEXCLUSIVE, as of io_uring's accept). If
// that one ends without having looked, for it was cancelled or lacks a descriptor, the connection
// stays in the backlog and no other accept would hear of it. So it has another look: that one's
// accept is cancelled and made anew. Whoever was asked to look and does not get to it asks the
// next.
struct acceptor::look {
    acceptor& at;
    bool owed = false;

    ~look() {
        if (owed)
            at.pass_on();
    }
};

owned_fd acceptor::accept() {
    ring& r = use_here("accept");
    descriptor_call here{*this};
    look mine{*this};
    for (;;) {
        check_cancel();
        if (!r.has_room()) [[unlikely]]
            r.make_room();
        if (closing()) [[unlikely]]
            throw_not_open("accept");
        operation op{accept_kind, r, fd()};
        op.brings_descriptor = true;
        here.waits = &op;
        nobody_else_waits_ = false;
        r.perform(op, [&](io_uring_sqe& entry) {
            io_uring_prep_accept(&entry, fd(), nullptr, nullptr, SOCK_CLOEXEC);
        });
        here.waits = nullptr;
        mine.owed = op.result < 0;
        if (op.result >= 0) [[likely]]
            return owned_fd{op.take_descriptor()};
        if (op.was_cancelled())
            throw_cancelled();
        if (closing())
            throw_error(EBADF,
                        "accept on " + local_name(fd()) + ": closed while accept was waiting");
        // ECANCELED: by pass_on(), to look again.
        if (op.result != -ECANCELED && !concerns_one_connection(-op.result))
            throw_error(-op.result, "accept on " + local_name(fd()));
    }
}

void acceptor::pass_on() noexcept {
    pollfd backlog{.fd = fd(), .events = POLLIN, .revents = 0};
    if (closing() || nobody_else_waits_ || ::poll(&backlog, 1, 0) != 1)
        return;
    operation* another = nullptr;
    for_each_use([&another](const descriptor_use& u) {
        if (another != nullptr || u.waits == nullptr || &u.waits->kind() != &accept_kind)
            return;
        auto* op = static_cast<operation*>(u.waits);
        if (op->result == operation::under_way && op->cancel.prepare == nullptr)
            another = op;
    });
    nobody_else_waits_ = another == nullptr;
    if (another != nullptr)
        another->on->cancel(*another);
}

void acceptor::let_go(descriptor& d, creel::inbox_node& done) noexcept {
    CREEL_ASSERT(!static_cast<acceptor&>(d).is_used(),
                 "two threads accept on one listener; open one per thread (reuse_port)");
    done.deliver(done);
}

} // namespace creel::io::detail
