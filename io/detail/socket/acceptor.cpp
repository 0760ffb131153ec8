#include <creel/io/detail/socket/acceptor.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/io/error.hpp>

#include <cerrno>
#include <string>

#include <poll.h>
#include <sys/socket.h>

namespace creel::io::detail {
namespace {

// The connection failed before it was accepted; the next one may be sound. accept(2), "Error
// handling", lists these errors.
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

// Of one call of accept().
struct acceptor::owed_look {
    acceptor& at;
    bool owed = false;

    ~owed_look() {
        if (owed)
            at.hand_on();
    }
};

owned_fd acceptor::accept() {
    ring& r = use_here("accept");
    descriptor_call here{*this};
    owed_look look{*this};
    for (;;) {
        check_cancel();
        if (!r.has_room()) [[unlikely]]
            r.make_room();
        if (closing()) [[unlikely]]
            throw_not_open("accept");
        operation op{accept_kind, r, fd()};
        op.brings_descriptor = true;
        here.waits = &op;
        no_other_waits_ = false;
        r.perform(op, [&](io_uring_sqe& entry) {
            io_uring_prep_accept(&entry, fd(), nullptr, nullptr, SOCK_CLOEXEC);
        });
        here.waits = nullptr;
        look.owed = op.result < 0;
        if (op.result >= 0) [[likely]]
            return owned_fd{op.take_descriptor()};
        if (op.was_cancelled())
            throw_cancelled();
        if (closing())
            throw_error(EBADF,
                        "accept on " + local_name(fd()) + ": closed while accept was waiting");
        // ECANCELED: another call has handed its look on to this one.
        if (op.result != -ECANCELED && !concerns_one_connection(-op.result))
            throw_error(-op.result, "accept on " + local_name(fd()));
    }
}

void acceptor::hand_on() noexcept {
    pollfd backlog{.fd = fd(), .events = POLLIN, .revents = 0};
    if (closing() || no_other_waits_ || ::poll(&backlog, 1, 0) != 1)
        return;
    operation* another = nullptr;
    for_each_use([&another](const descriptor_use& u) {
        if (another != nullptr || u.waits == nullptr || &u.waits->kind() != &accept_kind)
            return;
        auto* op = static_cast<operation*>(u.waits);
        if (op->result == operation::under_way && op->cancel.prepare == nullptr)
            another = op;
    });
    no_other_waits_ = another == nullptr;
    if (another != nullptr)
        another->on->cancel(*another);
}

void acceptor::let_go(descriptor& d, creel::inbox_node& done) noexcept {
    CREEL_ASSERT(!static_cast<acceptor&>(d).is_used(),
                 "two threads accept on one listener; open one per thread (reuse_port)");
    done.deliver(done);
}

} // namespace creel::io::detail
