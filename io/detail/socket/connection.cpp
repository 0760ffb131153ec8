#include <creel/io/detail/socket/connection.hpp>

#include <creel/fibers/assert.hpp>
#include <creel/fibers/cancelled.hpp>
#include <creel/io/error.hpp>

#include <algorithm>
#include <cerrno>
#include <new>
#include <source_location>
#include <string>
#include <utility>

#include <sys/socket.h>

namespace creel::io::detail {
namespace {

// The kernel moves no more at once (MAX_RW_COUNT in linux/fs.h).
constexpr std::size_t most_bytes = 0x7fff'f000;

void describe_recv(const waiter& w, std::string& text) {
    text += "recv from " + peer_name(static_cast<const operation&>(w).fd);
}

void describe_send(const waiter& w, std::string& text) {
    text += "send to " + peer_name(static_cast<const operation&>(w).fd);
}

constexpr waiter_kind kinds[] = {{&withdraw_operation, &describe_recv, true},
                                 {&withdraw_operation, &describe_send, true}};
constexpr const char* names[] = {"recv", "send"};
constexpr const char* verbs[] = {"receive", "send"};

// The connection has broken. EPIPE does not tell that: a send gets it, too, after the peer has sent
// its end in order.
bool says_broken(int error_number) noexcept {
    switch (error_number) {
    case ECONNRESET:
    case ECONNABORTED:
    case ETIMEDOUT:
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EHOSTDOWN:
    case ENETDOWN:
        return true;
    default:
        return false;
    }
}

} // namespace

void two_fibers_at_once(const char* verb, int fd) noexcept {
    const std::string text =
        std::string{"two fibers "} + verb + " on one stream at once, whose peer is " +
        peer_name(fd) +
        ": leave that to one of them, or guard the stream with a creel::sync::mutex";
    assertion_failed(verb, text.c_str(), std::source_location::current());
}

// A descriptor is entered in the ring's file table after this many operations. The kernel's fget()
// and fput() were 1.7% of an echo server's CPU time at 64 connections. But the two system calls
// that save them cost a connection too much that is over after a request or two.
constexpr unsigned operations_before_registration = 64;

const descriptor_kind connection::kind{"stream", &connection::end_own, &connection::let_go,
                                       &connection::destroy};

connection* connection::adopt(owned_fd fd) {
    auto* made = new connection(fd.get());
    fd.release();
    return made;
}

template <connection::direction Way>
connection::outcome connection::operate(ring& r, descriptor_use& here, std::uintptr_t data,
                                        std::size_t size_bytes, unsigned flags, bool poll_first) {
    if (busy_[Way]) [[unlikely]]
        two_fibers_at_once(verbs[Way], fd());
    if (++operations_ == operations_before_registration) [[unlikely]]
        register_with(r);
    const bool fixed = slot_ >= 0;
    operation op{kinds[Way], r, fd()};
    busy_[Way] = true;
    here.waits = &op;
    r.perform(op, [&](io_uring_sqe& entry) {
        io_uring_prep_rw(Way == receiving ? IORING_OP_RECV : IORING_OP_SEND, &entry,
                         fixed ? slot_ : fd(), reinterpret_cast<const void*>(data),
                         static_cast<unsigned>(std::min(size_bytes, most_bytes)), 0);
        entry.flags = fixed ? IOSQE_FIXED_FILE : 0;
        entry.msg_flags = flags;
        entry.ioprio = poll_first ? IORING_RECVSEND_POLL_FIRST : 0;
    });
    here.waits = nullptr;
    busy_[Way] = false;
    if (Way == receiving)
        holds_data_ = (op.flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
    if (op.result > 0) [[likely]]
        return {op.result, false};
    return {op.result, op.was_cancelled()};
}

// check_cancel(), receive() and make_room() may park, and the stream may close meanwhile. So after
// each of them the loop comes to the look at closing() before it makes an operation: after the
// latter two it begins anew.
template <connection::direction Way>
std::size_t connection::transfer(ring& r, descriptor_use& here, std::uintptr_t data,
                                 std::size_t size_bytes, unsigned flags) {
    bool is_nonblocking = false;
    for (;;) {
        check_cancel();
        if (size_bytes == 0) [[unlikely]]
            return 0;
        if (closing()) [[unlikely]]
            throw_not_open(names[Way]);
        outcome done{0, false};
        if (Way == receiving && standing_.takes_next_recv()) {
            const auto told =
                standing_.receive(r, here, {reinterpret_cast<std::byte*>(data), size_bytes});
            if (!told) [[unlikely]]
                continue; // to make an operation
            if (*told > 0) [[likely]]
                return static_cast<std::size_t>(*told);
            done.result = *told;
        } else {
            if (!r.has_room()) [[unlikely]] {
                r.make_room();
                continue;
            }
            // The kernel polls first if the last receive left no data in the socket. On a
            // nonblocking descriptor it waits only if it polls first.
            const bool poll_first = is_nonblocking || (Way == receiving && !holds_data_);
            done = operate<Way>(r, here, data, size_bytes, flags, poll_first);
            if (done.result > 0) [[likely]] {
                if (Way == receiving)
                    standing_.learn(static_cast<std::size_t>(done.result), holds_data_);
                return static_cast<std::size_t>(done.result);
            }
        }
        if (done.result == 0) {
            if (Way == receiving) {
                standing_.learn(0, false);
                check_whole();
            }
            return 0;
        }
        explain<Way>(static_cast<int>(done.result), done.was_cancelled);
        is_nonblocking = done.result == -EAGAIN;
    }
}

template <connection::direction Way>
[[gnu::noinline]] void connection::explain(int result, bool was_cancelled) {
    if (was_cancelled)
        throw_cancelled();
    if (!closing() && (result == -EINTR || result == -EAGAIN))
        return;
    const std::string what =
        std::string{names[Way]} + (Way == receiving ? " from " : " to ") + peer_name(fd());
    if (closing())
        throw_error(EBADF, what + ": closed while " + names[Way] + " was waiting");
    if (says_broken(-result))
        broken_ = -result;
    throw_error(-result, what);
}

// The kernel tells once how a connection broke, to the operation that looks first (sock_error() in
// include/net/sock.h). If that is a send, the receive finds a plain end, and its caller would take
// a broken stream for a whole one. The send has completed before the receive. So either its fiber
// has run, and broken_ is known, or it is still in the list, with its result.
void connection::check_whole() {
    if (broken_ == 0)
        for_each_use([this](const descriptor_use& u) {
            if (u.waits == nullptr || &u.waits->kind() != &kinds[sending])
                return;
            const int result = static_cast<const operation*>(u.waits)->result;
            if (result != operation::under_way && result < 0 && says_broken(-result))
                broken_ = -result;
        });
    if (broken_ != 0)
        throw_error(broken_, "recv from " + peer_name(fd()));
}

// No MSG_WAITALL in either direction. It would hide a reset that comes after a part of the bytes:
// the kernel completes the operation with the part, and does not tell the next operation of the
// error.
template <connection::direction Way>
void connection::all(std::uintptr_t data, std::size_t size_bytes, unsigned flags) {
    std::size_t moved = 0;
    try {
        ring& r = use_here(names[Way]); // may wait, if the stream was last used on another thread
        descriptor_call here{*this};
        if (size_bytes == 0) [[unlikely]]
            check_cancel();
        while (moved < size_bytes) {
            const std::size_t n = transfer<Way>(r, here, data + moved, size_bytes - moved, flags);
            if (n == 0)
                throw unexpected_eof("recv from " + peer_name(fd()), moved);
            moved += n;
        }
    } catch (const cancelled& why) {
        throw partial_cancelled(why, moved);
    }
}

std::size_t connection::recv(std::span<std::byte> buffer) {
    ring& r = use_here("recv");
    descriptor_call here{*this};
    return transfer<receiving>(r, here, reinterpret_cast<std::uintptr_t>(buffer.data()),
                               buffer.size(), 0);
}

void connection::recv_exact(std::span<std::byte> buffer) {
    all<receiving>(reinterpret_cast<std::uintptr_t>(buffer.data()), buffer.size(), 0);
}

std::size_t connection::send(std::span<const std::byte> bytes) {
    ring& r = use_here("send");
    descriptor_call here{*this};
    return transfer<sending>(r, here, reinterpret_cast<std::uintptr_t>(bytes.data()), bytes.size(),
                             MSG_NOSIGNAL);
}

void connection::send_all(std::span<const std::byte> bytes) {
    all<sending>(reinterpret_cast<std::uintptr_t>(bytes.data()), bytes.size(), MSG_NOSIGNAL);
}

void connection::end_own(descriptor& d) noexcept {
    static_cast<connection&>(d).standing_.end();
}

void connection::register_with(ring& r) noexcept {
    operations_ = operations_before_registration;
    if (slot_ < 0)
        slot_ = r.files().enter(fd());
}

// The slot holds the file open, and with it the connection; the end of the ring frees it, too. No
// entry that the kernel has not yet taken may name the slot: it may soon be another stream's.
void connection::unregister() noexcept {
    operations_ = 0;
    const int slot = std::exchange(slot_, -1);
    if (ring* here = current_ring(); slot >= 0 && here != nullptr && here->inbox().get() == inbox())
        here->files().take_out(slot);
}

void connection::let_go(descriptor& d, creel::inbox_node& done) noexcept {
    auto& self = static_cast<connection&>(d);
    self.for_each_use([&self](const descriptor_use& u) {
        CREEL_ASSERT(self.standing_.is(u),
                     "two threads use one stream; give each its own, and move one only while no "
                     "call on it waits");
    });
    self.standing_.let_go(done);
}

void connection::share(const char* call) {
    be_found_here(call);
    standing_.stop_now();
}

// Bytes that the ring has received and no recv has taken are bytes that the program did not read:
// close(2) sends a reset for such bytes. (A Unix socket has no such option: its peer sees a plain
// end.)
void connection::destroy(descriptor& d) noexcept {
    auto& self = static_cast<connection&>(d);
    self.unregister();
    if (self.fd() >= 0 && self.pending() != 0) {
        const linger reset{.l_onoff = 1, .l_linger = 0};
        ::setsockopt(self.fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    delete &self;
}

} // namespace creel::io::detail
