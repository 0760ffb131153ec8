#include <creel/io/detail/acceptor.hpp>
#include <creel/io/error.hpp>

#include <cerrno>
#include <new>
#include <string>

#include <sys/socket.h>
#include <unistd.h>

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

} // namespace

struct acceptor::accept_waiter : waiter, link {
    explicit accept_waiter(const acceptor& a) noexcept : waiter(kind), on(&a) {}

    // Whoever unlinks it has given it its result, and the wake is on the way.
    static withdrawal withdraw(waiter& w, wake_reason) noexcept {
        auto& self = static_cast<accept_waiter&>(w);
        if (!self.linked())
            return withdrawal::pending;
        self.unlink();
        return withdrawal::withdrawn;
    }
    static void describe(const waiter& w, std::string& text) {
        text += "accept on " + local_name(static_cast<const accept_waiter&>(w).on->fd());
    }
    static const waiter_kind kind;

    const acceptor* on;
    int result = 0; // a descriptor or -errno
};

const waiter_kind acceptor::accept_waiter::kind{&accept_waiter::withdraw, &accept_waiter::describe,
                                                true};
const descriptor_kind acceptor::kind{"listener", &acceptor::interrupt, &acceptor::let_go,
                                     &acceptor::destroy, &acceptor::first_wait};

acceptor::acceptor(int fd) : descriptor(kind, fd) {
    accept_.self = this;
    accept_.complete = [](completion_target& t, int result, unsigned flags) noexcept {
        static_cast<armed_accept&>(t).self->completed(result, flags);
    };
    accept_.prepare = [](sqe_request& r, io_uring_sqe& entry) noexcept {
        auto& request = static_cast<armed_accept&>(r);
        acceptor& self = *request.self;
        io_uring_prep_accept(&entry, self.fd(), nullptr, nullptr, SOCK_CLOEXEC);
        if (self.multishot_)
            entry.ioprio |= IORING_ACCEPT_MULTISHOT;
        entry.user_data = ring::tagged(static_cast<completion_target&>(request));
    };
    cancel_.target = ring::tagged(static_cast<completion_target&>(accept_));
    cancel_.prepare = &prepare_cancel;
    member_.self = this;
    member_.ring_ends = [](ring_member& m) noexcept {
        acceptor& self = *static_cast<membership&>(m).self;
        self.disarm();
        self.close_queued();
        if (!self.armed_)
            self.where_ = nullptr;
    };
}

acceptor* acceptor::adopt(owned_fd fd) {
    auto* made = new acceptor(fd.get());
    fd.release();
    return made;
}

owned_fd acceptor::accept() {
    ring& r = ring_for("accept");
    CREEL_ASSERT(where_ == nullptr || where_ == &r,
                 "two threads accept on one listener; open one per thread (reuse_port)");
    use_on(r, "accept");
    const hold here{*this};
    check_cancel();
    if (closing()) [[unlikely]]
        throw_not_open("accept");
    if (where_ == nullptr) {
        where_ = &r;
        r.join(member_);
    }
    if (!queue_.empty()) {
        const int connected = queue_.front();
        queue_.pop_front();
        r.late_descriptor(-1);
        return owned_fd{connected};
    }
    arm();
    accept_waiter w{*this};
    waiters_.push(w);
    if (park(w) == wake_reason::cancelled)
        throw_cancelled();
    if (w.result < 0) [[unlikely]] {
        std::string what = "accept on " + local_name(fd());
        if (closing())
            what += ": closed while accept was waiting";
        throw_error(-w.result, what);
    }
    r.late_descriptor(-1);
    return owned_fd{w.result};
}

void acceptor::arm() {
    if (armed_)
        return;
    armed_ = true;
    enter();
    where_->request(accept_);
}

// Has the accept ended soon, by its last completion.
void acceptor::disarm() noexcept {
    if (!armed_)
        return;
    if (accept_.linked()) {
        ring::retract(accept_);
        armed_ = false;
        leave();
    } else if (!cancelling_) {
        cancelling_ = true;
        where_->request(cancel_);
    }
}

void acceptor::completed(int result, unsigned flags) noexcept {
    if (result >= 0)
        deliver(result);
    if ((flags & IORING_CQE_F_MORE) != 0)
        return;
    ring::retract(cancel_);
    armed_ = cancelling_ = false;
    if (result == -EINVAL && multishot_) {
        multishot_ = false;
    } else if (result < 0 && result != -ECANCELED && !concerns_one_connection(-result)) {
        // Out of descriptors or memory. Armed again for those who still wait it would fail again at
        // once, and nobody tells when it would not; so all are told.
        tell_all(result);
    }
    if (where_->ending())
        where_ = nullptr;
    else if (!closing() && !waiters_.empty())
        arm();
    leave();
}

void acceptor::deliver(int connected) noexcept {
    if (closing() || where_->ending()) {
        ::close(connected);
        return;
    }
    where_->late_descriptor(+1);
    if (!waiters_.empty()) {
        accept_waiter& w = waiters_.pop();
        w.result = connected;
        wake(w);
        return;
    }
    try {
        queue_.push_back(connected);
    } catch (const std::bad_alloc&) { // then there is no room to serve it either
        ::close(connected);
        where_->late_descriptor(-1);
        return;
    }
    if (queue_.size() >= queue_limit)
        disarm();
}

void acceptor::close_queued() noexcept {
    for (const int connected : queue_) {
        ::close(connected);
        where_->late_descriptor(-1);
    }
    queue_.clear();
}

void acceptor::tell_all(int error) noexcept {
    while (!waiters_.empty()) {
        accept_waiter& w = waiters_.pop();
        w.result = error;
        wake(w);
    }
}

void acceptor::interrupt(descriptor& d) noexcept {
    auto& self = static_cast<acceptor&>(d);
    self.tell_all(-EBADF);
    self.disarm();
}

const waiter* acceptor::first_wait(descriptor& d) noexcept {
    const waiter* first = nullptr;
    static_cast<acceptor&>(d).waiters_.for_each([&first](const accept_waiter& w) {
        if (first == nullptr)
            first = &w;
    });
    return first;
}

// Nothing is left to undo: accept() sees to it that a ring has let go of it before the next.
void acceptor::let_go(descriptor&, detail::mail& done) noexcept {
    done.deliver(done);
}

void acceptor::destroy(descriptor& d) noexcept {
    auto& self = static_cast<acceptor&>(d);
    self.close_queued();
    if (self.member_.linked())
        self.member_.unlink();
    delete &self;
}

} // namespace creel::io::detail
