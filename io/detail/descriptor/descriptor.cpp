#include <creel/io/detail/descriptor/descriptor.hpp>

#include <creel/fibers/scheduler.hpp>
#include <creel/io/detail/descriptor/close_descriptor.hpp>
#include <creel/io/detail/socket/sockaddr.hpp>
#include <creel/io/error.hpp>

#include <cerrno>
#include <cstdio>
#include <new>

#include <unistd.h>

#include <sys/socket.h>

namespace creel::io::detail {

owned_fd::~owned_fd() {
    close_descriptor(fd_, false);
}

// A fiber that waits in close() for the last member to leave. No cancel ends this wait: all that it
// waits for has itself been cancelled.
struct descriptor::close_waiter : waiter {
    explicit close_waiter(const descriptor& d) noexcept : waiter(kind), what(&d) {}

    static withdrawal withdraw(waiter&, wake_reason) noexcept { return withdrawal::pending; }
    static void describe(const waiter& w, std::string& text) {
        text += "close of a ";
        text += static_cast<const close_waiter&>(w).what->kind_->name;
    }
    static constexpr waiter_kind kind{&close_waiter::withdraw, &close_waiter::describe, false};

    const descriptor* what;
};

// True if a member has still to leave. Each wait ends as a cancel would end it: the last completion
// of its operation is awaited, and a success that came before stands.
bool descriptor::begin_close() noexcept {
    closing_ = true;
    descriptor_use keep; // a member that ends here may be the last to leave
    keep.join(*this);
    kind_->end_own(*this);
    uses_.for_each([](descriptor_use& u) {
        if (u.waits != nullptr &&
            u.waits->kind().withdraw(*u.waits, wake_reason::cancelled) == withdrawal::withdrawn)
            wake(*u.waits);
    });
    keep.unlink();
    return is_used();
}

// In a forked child the record is a copy. The calls on it are the parent's, and so are the options
// of the socket. The child's descriptor is closed; a copy that is in use is left alone.
bool descriptor::close_copy(descriptor& d) noexcept {
    if (fork_count() == 0)
        return false;
    const ring_inbox* of = d.inbox();
    if (of == nullptr || !of->is_parents())
        return false;
    const int fd = std::exchange(d.fd_, -1);
    if (!d.is_used() && d.transfer_ == nullptr)
        d.kind_->destroy(d);
    close_descriptor(fd, false);
    return true;
}

void descriptor::close(descriptor& d) {
    if (close_copy(d))
        return;
    try {
        d.come_here("close", false);
    } catch (const std::bad_alloc&) {
        drop(d); // it always closes
        throw;
    }
    if (d.begin_close()) {
        close_waiter w{d};
        d.closer_ = &w;
        static_cast<void>(park(w)); // never cancelled
    }
    d.finish();
}

void descriptor::drop(descriptor& d) noexcept {
    if (close_copy(d))
        return;
    std::shared_ptr<ring_inbox> of;
    if (d.drop_while_moving(of))
        return;
    const ring* here = current_ring();
    if (of != nullptr && (here == nullptr || here->inbox() != of)) {
        d.deliver = [](inbox_node& n) noexcept { static_cast<descriptor&>(n).drop_here(); };
        if (of->post(d))
            return;
    }
    d.drop_here();
}

// The usual cause is a local variable of a nursery's body that a child uses. The child's call ends
// with an error, far from the mistake.
void descriptor::name_user() noexcept {
    const waiter* w = nullptr;
    uses_.for_each([&w](const descriptor_use& u) { w = w != nullptr ? w : u.waits; });
    if (w == nullptr)
        return;
    try {
        std::string wait;
        w->kind().describe(*w, wait);
        std::fprintf(stderr,
                     "creel: debug: a %s is destroyed while %s waits for %s: declare it outside "
                     "with_nursery, or join() the nursery before it goes\n",
                     kind_->name, name_of_waiting(*w).c_str(), wait.c_str());
    } catch (const std::bad_alloc&) { // without memory there is no hint
    }
}

void descriptor::drop_here() noexcept {
    if (is_used() && on_scheduler() && in_debug_mode()) [[unlikely]]
        name_user();
    if (!begin_close())
        finish();
}

int descriptor::release(descriptor& d) noexcept {
    CREEL_ASSERT(!d.is_used(), "release of a stream while a call on it waits");
    d.leave_ring();
    const int fd = std::exchange(d.fd_, -1);
    d.kind_->destroy(d);
    return fd;
}

void descriptor::last_left() noexcept {
    if (closer_ != nullptr)
        wake(*std::exchange(closer_, nullptr));
    else
        finish();
}

// The ring forgets the number. After the ring's end there is nothing to do.
void descriptor::leave_ring() noexcept {
    if (ring* here = current_ring(); here != nullptr && here->inbox().get() == inbox())
        here->descriptors().take_out(fd_, *this);
}

void descriptor::finish() noexcept {
    leave_ring();
    const int fd = fd_;
    const bool lingers = may_linger_;
    kind_->destroy(*this);
    close_descriptor(fd, lingers);
}

void throw_not_open(const char* call) {
    throw_error(EBADF, std::string{call} + ": closed, released or moved from");
}

endpoint local_address(int fd) {
    sockaddr_storage storage;
    socklen_t length_bytes = sizeof storage;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length_bytes) < 0)
        throw_error(errno, "getsockname");
    return endpoint_from(reinterpret_cast<const sockaddr*>(&storage), length_bytes);
}

endpoint peer_address(int fd) {
    sockaddr_storage storage;
    auto* address = reinterpret_cast<sockaddr*>(&storage);
    socklen_t length_bytes = sizeof storage;
    if (::getpeername(fd, address, &length_bytes) == 0)
        return endpoint_from(address, length_bytes);
    const int reason = errno;
    // After a reset, just when a message is to name the peer, getpeername() knows no peer any more.
    // SO_PEERNAME does. It wants no more room than the address has (sk_getsockopt in
    // net/core/sock.c).
    length_bytes = sizeof storage;
    if (reason == ENOTCONN && ::getsockname(fd, address, &length_bytes) == 0 &&
        ::getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &storage, &length_bytes) == 0)
        return endpoint_from(address, length_bytes);
    throw_error(reason, "getpeername");
}

std::string local_name(int fd) {
    try {
        return local_address(fd).to_string();
    } catch (const std::system_error&) {
        return "an unknown address";
    }
}

// A client of a Unix server has no name of its own; nor has an end of a socket pair.
std::string peer_name(int fd) {
    const auto is_unnamed = [](const endpoint& e) {
        return e.family() == address_family::local && e.path().empty();
    };
    try {
        const endpoint peer = peer_address(fd);
        if (!is_unnamed(peer))
            return peer.to_string();
        const endpoint here = local_address(fd);
        return is_unnamed(here)
                   ? "an unnamed Unix socket (peer of descriptor " + std::to_string(fd) + ')'
                   : "a client of " + here.to_string();
    } catch (const std::system_error&) {
        return "an unknown peer";
    }
}

} // namespace creel::io::detail
