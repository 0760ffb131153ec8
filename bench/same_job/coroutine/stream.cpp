#include "stream.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <netinet/tcp.h>
#include <unistd.h>

namespace same_job::coroutine {
namespace {

[[noreturn]] void fail(const char* call) {
    throw std::system_error{errno, std::system_category(), call};
}

int new_socket() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail("socket");
    const int yes = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0)
        fail("TCP_NODELAY");
    return fd;
}

} // namespace

void socket::enter_table() {
    if (slot_ < 0)
        slot_ = loop::current().enter_file(fd_);
}

// No receive or transmit is under way: they lie in the frames of coroutines that use the stream.
void socket::close() noexcept {
    closing_ = true;
    while (first_held_ != no_buffer)
        loop::current().buffers().give_back(
            std::exchange(first_held_, loop::current().buffers().on(first_held_).next));
    if (multishot_ || stopping_) {
        loop::current().owe();
        if (multishot_ && !stopping_)
            stop_multishot();
    } else {
        finish();
    }
}

void socket::finish() noexcept {
    if (slot_ >= 0)
        loop::current().leave_file(slot_);
    ::close(fd_);
    delete this;
}

void socket::start_multishot() {
    enter_table();
    io_uring_sqe& e = loop::current().entry(*this);
    io_uring_prep_recv_multishot(&e, fd_, nullptr, 0, 0);
    e.flags |= IOSQE_BUFFER_SELECT;
    e.buf_group = buffer_pool::group;
    name_file(e);
    multishot_ = true;
    short_ones_ = 0;
}

void socket::stop_multishot() {
    stopping_ = true;
    loop::current().cancel(*this);
}

void socket::hold(unsigned id, std::size_t size, std::size_t taken) noexcept {
    buffer_pool& pool = loop::current().buffers();
    pool.on(id) = {static_cast<unsigned>(taken), static_cast<unsigned>(size - taken), no_buffer};
    if (first_held_ == no_buffer)
        first_held_ = id;
    else
        pool.on(last_held_).next = id;
    last_held_ = id;
    ++held_;
}

std::size_t socket::take_held(std::span<std::byte> buffer) noexcept {
    buffer_pool& pool = loop::current().buffers();
    std::size_t total = 0;
    while (first_held_ != no_buffer && total < buffer.size()) {
        auto& note = pool.on(first_held_);
        const std::size_t n = std::min<std::size_t>(note.size, buffer.size() - total);
        std::memcpy(buffer.data() + total, pool.bytes(first_held_) + note.offset, n);
        total += n;
        note.offset += static_cast<unsigned>(n);
        note.size -= static_cast<unsigned>(n);
        if (note.size == 0) {
            pool.give_back(std::exchange(first_held_, note.next));
            --held_;
        }
    }
    return total;
}

void socket::completed(completion& c, int result, unsigned flags) {
    static_cast<socket&>(c).arrived(result, flags);
}

void socket::arrived(int result, unsigned flags) {
    buffer_pool& pool = loop::current().buffers();
    receive* told = nullptr;
    int outcome = 0;
    if ((flags & loop::cancel_flag) != 0) {
        stopping_ = false;
        if (result == -ENOENT && multishot_)
            stop_multishot(); // as in operation::completed()
    } else {
        if ((flags & IORING_CQE_F_BUFFER) != 0) {
            const unsigned id = flags >> IORING_CQE_BUFFER_SHIFT;
            const auto size = static_cast<std::size_t>(std::max(result, 0));
            std::size_t taken = 0;
            if (receiver_ != nullptr && size != 0) { // then nothing is held
                told = std::exchange(receiver_, nullptr);
                taken = std::min(size, told->buffer_.size());
                std::memcpy(told->buffer_.data(), pool.bytes(id), taken);
                outcome = static_cast<int>(taken);
            }
            if (taken == size || closing_)
                pool.give_back(id);
            else
                hold(id, size, taken);
            if ((size == buffer_pool::buffer_bytes || held_ >= most_held) && multishot_ &&
                !stopping_ && (flags & IORING_CQE_F_MORE) != 0)
                stop_multishot();
        }
        if ((flags & IORING_CQE_F_MORE) == 0) {
            multishot_ = false;
            // Without buffers, or after a cancel, the next receives are single.
            if (result <= 0 && result != -ENOBUFS && result != -ECANCELED) {
                ended_ = true;
                end_ = result;
            }
            if (receiver_ != nullptr && ended_) {
                told = std::exchange(receiver_, nullptr);
                outcome = end_;
            } else if (receiver_ != nullptr) {
                std::exchange(receiver_, nullptr)->start_single();
            }
        }
    }
    if (closing_ && !multishot_ && !stopping_) {
        loop::current().paid();
        finish();
    } else if (told != nullptr) {
        told->tell(outcome);
    }
}

// False: there is a result at once.
bool socket::receive::begin(std::coroutine_handle<> waiting, cancel_scope& scope) {
    scope.check();
    if (of_.first_held_ != no_buffer) {
        result_ = static_cast<int>(of_.take_held(buffer_));
        return false;
    }
    if (of_.ended_) {
        result_ = of_.end_;
        return false;
    }
    scope.add(*this);
    waiting_ = waiting;
    if (!of_.multishot_ && !of_.stopping_ && of_.short_ones_ >= short_before_multishot)
        of_.start_multishot();
    if (of_.multishot_)
        of_.receiver_ = this;
    else
        start_single();
    return true;
}

void socket::receive::start_single() {
    of_.count_operation();
    under_way_ = true;
    io_uring_sqe& e = loop::current().entry(*this);
    io_uring_prep_recv(&e, of_.fd_, buffer_.data(), buffer_.size(), 0);
    of_.name_file(e);
    if (!of_.holds_data_)
        e.ioprio = IORING_RECVSEND_POLL_FIRST;
}

void socket::receive::tell(int result) {
    unlink();
    result_ = result;
    waiting_.resume();
}

void socket::receive::completed(completion& c, int result, unsigned flags) {
    auto& self = static_cast<receive&>(c);
    if ((flags & loop::cancel_flag) != 0) {
        self.cancelling_ = false;
        if (result == -ENOENT && self.under_way_)
            cancel_this(self); // as in operation::completed()
    } else {
        self.under_way_ = false;
        self.unlink();
        self.result_ = result;
        self.of_.holds_data_ = (flags & IORING_CQE_F_SOCK_NONEMPTY) != 0;
        self.of_.learn(self.of_.holds_data_ ? 0 : static_cast<std::size_t>(std::max(result, 0)));
    }
    if (!self.under_way_ && !self.cancelling_)
        self.waiting_.resume();
}

void socket::receive::cancel_this(cancel_entry& e) noexcept {
    auto& self = static_cast<receive&>(e);
    if (self.under_way_) {
        self.cancelling_ = true;
        loop::current().cancel(self);
    } else { // the multishot receive goes on, and loses nothing
        self.of_.receiver_ = nullptr;
        self.result_ = -ECANCELED;
        loop::current().ready(self.waiting_);
    }
}

std::size_t socket::receive::await_resume() const {
    if (result_ == -ECANCELED)
        throw operation_cancelled{};
    if (result_ < 0)
        throw std::system_error{-result_, std::system_category(), "recv"};
    return static_cast<std::size_t>(result_);
}

stream::connect_operation stream::connect(std::uint16_t port) {
    return connect_operation{port};
}

stream::connect_operation::connect_operation(std::uint16_t port) : fd_(new_socket()) {
    to_.sin_family = AF_INET;
    to_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to_.sin_port = htons(port);
}

stream::connect_operation::~connect_operation() {
    if (fd_ >= 0)
        ::close(fd_);
}

stream stream::connect_operation::await_resume() {
    static_cast<void>(result("connect"));
    return stream{std::exchange(fd_, -1)};
}

listener::listener() : fd_(new_socket()) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        listen(fd_, 4096) != 0)
        fail("listen");
}

listener::~listener() {
    ::close(fd_);
}

std::uint16_t listener::port() const {
    sockaddr_in address{};
    socklen_t size = sizeof address;
    if (getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size) != 0)
        fail("getsockname");
    return ntohs(address.sin_port);
}

} // namespace same_job::coroutine
