#include <creel/io/tcp_stream.hpp>

#include <creel/io/detail/connect.hpp>
#include <creel/io/detail/connection.hpp>
#include <creel/io/error.hpp>

#include <cerrno>
#include <string>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace creel::io {

using detail::connection;
using detail::descriptor;
using detail::opened;

namespace {

// The result of a system call in the C library's form.
void check_call(int result, const char* what, const connection& record) {
    if (result < 0)
        check(-errno, [&] { return what + detail::peer_name(record.fd()); });
}

} // namespace

tcp_stream tcp_stream::connect(const endpoint& to) {
    return tcp_stream{connection::adopt(detail::connect(to))};
}

tcp_stream tcp_stream::adopt(int fd) {
    connection* adopted = connection::adopt(detail::owned_fd{fd});
    adopted->may_linger();
    return tcp_stream{adopted};
}

tcp_stream::~tcp_stream() {
    if (record_ != nullptr)
        descriptor::drop(*record_);
}

tcp_stream& tcp_stream::operator=(tcp_stream&& other) noexcept {
    connection* theirs = std::exchange(other.record_, nullptr);
    if (connection* old = std::exchange(record_, theirs); old != nullptr)
        descriptor::drop(*old);
    return *this;
}

std::size_t tcp_stream::recv(std::span<std::byte> buffer) {
    return opened(record_, "recv").recv(buffer);
}

void tcp_stream::recv_exact(std::span<std::byte> buffer) {
    opened(record_, "recv_exact").recv_exact(buffer);
}

std::size_t tcp_stream::send(std::span<const std::byte> bytes) {
    return opened(record_, "send").send(bytes);
}

void tcp_stream::send_all(std::span<const std::byte> bytes) {
    opened(record_, "send_all").send_all(bytes);
}

void tcp_stream::shutdown_send() {
    const connection& record = opened(record_, "shutdown_send");
    check_call(::shutdown(record.fd(), SHUT_WR), "shutdown of the stream to ", record);
}

void tcp_stream::set_no_delay(bool on) {
    const connection& record = opened(record_, "set_no_delay");
    const int value = on ? 1 : 0;
    check_call(::setsockopt(record.fd(), IPPROTO_TCP, TCP_NODELAY, &value, sizeof value),
               "TCP_NODELAY on the stream to ", record);
}

endpoint tcp_stream::local_endpoint() const {
    return detail::local_address(opened(record_, "local_endpoint").fd());
}

endpoint tcp_stream::remote_endpoint() const {
    return detail::peer_address(opened(record_, "remote_endpoint").fd());
}

void tcp_stream::close() {
    connection& record = opened(record_, "close");
    record_ = nullptr;
    descriptor::close(record);
}

int tcp_stream::native_handle() const {
    connection& record = opened(record_, "native_handle");
    record.share("native_handle");
    record.may_linger();
    return record.fd();
}

std::size_t tcp_stream::pending() const {
    connection& record = opened(record_, "pending");
    record.come_here("pending");
    return record.pending();
}

int tcp_stream::release() {
    connection& record = opened(record_, "release");
    record.share("release");
    if (const std::size_t bytes = record.pending(); bytes != 0)
        throw_error(EBUSY, "release of the stream to " + detail::peer_name(record.fd()) + ": " +
                               std::to_string(bytes) +
                               " bytes have been received already; recv them first");
    if (const int error = record.take_error(); error != 0)
        throw_error(error, "release of the stream to " + detail::peer_name(record.fd()));
    record_ = nullptr;
    return descriptor::release(record);
}

} // namespace creel::io
