#include <creel/io/detail/descriptor.hpp>
#include <creel/io/detail/sockaddr.hpp>
#include <creel/io/error.hpp>

#include <cerrno>
#include <source_location>

#include <unistd.h>

#include <sys/socket.h>

namespace creel::io::detail {

owned_fd::~owned_fd() {
    if (fd_ >= 0)
        ::close(fd_);
}

// Who waits in close() for the last call to leave. No cancel ends this: all that is waited for has
// itself been cancelled.
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

// A fiber that waits until another thread's ring has let go of the record.
struct descriptor::mover : waiter, link {
    struct letter : mail {
        mover* self = nullptr;
    };

    explicit mover(descriptor& d) noexcept : waiter(kind), what(&d) {
        request.self = done.self = this;
        request.deliver = [](mail& m) noexcept { // on the old home's thread
            mover& self = *static_cast<letter&>(m).self;
            self.what->kind_->let_go(*self.what, self.done);
        };
        done.deliver = [](mail& m) noexcept { wake(*static_cast<letter&>(m).self); };
    }

    static withdrawal withdraw(waiter&, wake_reason) noexcept { return withdrawal::pending; }
    static void describe(const waiter& w, std::string& text) {
        text += "another thread's ring to let go of a ";
        text += static_cast<const mover&>(w).what->kind_->name;
    }
    // The old ring answers at its next poll, so no cancel needs to end this.
    static constexpr waiter_kind kind{&mover::withdraw, &mover::describe, false};

    descriptor* what;
    letter request{};
    letter done{};
    circle<mover> followers{}; // on the same thread, who found this one at it
    bool dropped = false;      // by a fiber of the same thread
};

// Until the old ring's thread has let go, it may work on the record: its ring delivers what comes.
// So nothing but home_ and mover_ is touched here before its answer, which a wake brings (release
// and acquire in the inbox), or before it is known that the ring has ended (the mailbox's mutex).
void descriptor::move_to(ring& r, const char* call) {
    mover m{*this};
    if (mover_ != nullptr) {
        mover_->followers.push(m);
        static_cast<void>(park(m));
    } else {
        if (home_ != nullptr && home_->post(m.request)) {
            mover_ = &m;
            static_cast<void>(park(m));
            mover_ = nullptr;
        } else if (home_ != nullptr) {
            mail nobody;
            nobody.deliver = [](mail&) noexcept {};
            kind_->let_go(*this, nobody);
        }
        CREEL_ASSERT(holds_ == 0,
                     "two threads use one stream or listener; give each its own, and move one only "
                     "while no call on it waits");
        home_ = r.box();
        // Each that waited here keeps the record until it runs: who runs before may be its end.
        enter();
        while (!m.followers.empty()) {
            enter();
            wake(m.followers.pop());
        }
        if (m.dropped)
            drop_here();
    }
    if (closing_) {
        leave();
        throw_not_open(call);
    }
    --holds_;
}

void descriptor::come_here(const char* call) {
    if (home_ == nullptr)
        return;
    if (ring* here = current_ring(); here != nullptr) {
        use_on(*here, call);
    } else if (home_->has_owner()) {
        const std::string message =
            std::string{call} + ": on a thread without a ring, while the ring that it was used on "
                                "still runs; call it there, or inside io::run()";
        creel::detail::assertion_failed("current_ring() != nullptr", message.c_str(),
                                        std::source_location::current());
    }
}

// True if somebody has still to leave.
bool descriptor::begin_close() noexcept {
    closing_ = true;
    if (holds_ == 0)
        return false;
    ++holds_; // interrupting may make others leave
    kind_->interrupt(*this);
    return --holds_ != 0;
}

void descriptor::close(descriptor& d) {
    d.come_here("close");
    if (d.begin_close()) {
        close_waiter w{d};
        d.closer_ = &w;
        static_cast<void>(park(w)); // never cancelled
    }
    d.finish();
}

void descriptor::drop(descriptor& d) noexcept {
    if (d.mover_ != nullptr) { // a call is inside that the old home's thread knows nothing of
        d.mover_->dropped = true;
        return;
    }
    if (d.home_ != nullptr) {
        const ring* here = current_ring();
        if (here == nullptr || here->box() != d.home_) {
            d.deliver = [](mail& m) noexcept { static_cast<descriptor&>(m).drop_here(); };
            if (d.home_->post(d))
                return;
        }
    }
    d.drop_here();
}

void descriptor::drop_here() noexcept {
    if (!begin_close())
        finish();
}

int descriptor::release(descriptor& d) noexcept {
    CREEL_ASSERT(d.holds_ == 0, "release of a stream while a call on it waits");
    const int fd = std::exchange(d.fd_, -1);
    d.kind_->destroy(d);
    return fd;
}

void descriptor::last_left() noexcept {
    if (closer_ != nullptr)
        wake(*closer_);
    else
        finish();
}

void descriptor::finish() noexcept {
    // close(2) and not IORING_OP_CLOSE: it costs the same in the kernel, and no switch.
    const int fd = fd_;
    kind_->destroy(*this);
    ::close(fd);
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
    // After a reset, just when a message wants to name the peer, getpeername() knows none any more.
    // SO_PEERNAME does; it takes no more room than the address has (sk_getsockopt in
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

std::string peer_name(int fd) {
    try {
        return peer_address(fd).to_string();
    } catch (const std::system_error&) {
        return "an unknown peer";
    }
}

} // namespace creel::io::detail
