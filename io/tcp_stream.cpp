#include <creel/io/tcp_stream.hpp>

#include <creel/io/detail/descriptor/adopt.hpp>
#include <creel/io/detail/socket/connect.hpp>
#include <creel/io/detail/socket/connection.hpp>
#include <creel/io/detail/socket/former_name.hpp>
#include <creel/io/detail/socket/socket_options.hpp>
#include <creel/io/error.hpp>

#include <cerrno>
#include <string>

#include <sys/socket.h>

namespace creel::io {

using detail::connection;
using detail::descriptor;

namespace {

void check_option(detail::option_error error, const connection& record) {
    if (!error) [[likely]]
        return;
    std::string what =
        std::string{error.option} + " on the stream to " + detail::peer_name(record.fd());
    if (error.error_number == EOPNOTSUPP && !detail::is_tcp(record.fd()))
        what += ", which is not TCP";
    throw_error(error.error_number, what);
}

} // namespace

tcp_stream tcp_stream::connect(const endpoint& to, const stream_options& options) {
    return tcp_stream{connection::adopt(detail::connect(to, options))};
}

tcp_stream tcp_stream::adopt(int fd, const stream_options& options) {
    return tcp_stream{detail::adopt_stream(fd, options)};
}

tcp_stream::~tcp_stream() {
    if (record_ != nullptr)
        descriptor::drop(*record_);
}

tcp_stream& tcp_stream::operator=(tcp_stream&& other) noexcept {
    connection* theirs = std::exchange(other.record_, nullptr);
    if (connection* old = std::exchange(record_, theirs); old != nullptr)
        descriptor::drop(*old);
    former_peer_ = std::move(other.former_peer_);
    return *this;
}

connection& tcp_stream::open(const char* call) const {
    if (record_ == nullptr) [[unlikely]]
        detail::throw_not_open(call, "the stream to ", former_peer_.get());
    return *record_;
}

std::size_t tcp_stream::recv(std::span<std::byte> buffer) {
    return open("recv").recv(buffer);
}

void tcp_stream::recv_exact(std::span<std::byte> buffer) {
    open("recv_exact").recv_exact(buffer);
}

std::size_t tcp_stream::send(std::span<const std::byte> bytes) {
    return open("send").send(bytes);
}

void tcp_stream::send_all(std::span<const std::byte> bytes) {
    open("send_all").send_all(bytes);
}

void tcp_stream::shutdown_send() {
    const connection& record = open("shutdown_send");
    if (::shutdown(record.fd(), SHUT_WR) < 0)
        throw_error(errno, "shutdown of the stream to " + detail::peer_name(record.fd()));
}

void tcp_stream::set_no_delay(bool on) {
    const connection& record = open("set_no_delay");
    check_option(detail::set_no_delay(record.fd(), on), record);
}

bool tcp_stream::no_delay() const {
    const connection& record = open("no_delay");
    bool value{};
    check_option(detail::get_no_delay(record.fd(), value), record);
    return value;
}

void tcp_stream::set_keep_alive(const keep_alive_options& value) {
    const connection& record = open("set_keep_alive");
    check_option(detail::set_keep_alive(record.fd(), value), record);
}

keep_alive_options tcp_stream::keep_alive() const {
    const connection& record = open("keep_alive");
    keep_alive_options value{};
    check_option(detail::get_keep_alive(record.fd(), value), record);
    return value;
}

void tcp_stream::set_user_timeout(saturating_duration limit) {
    const connection& record = open("set_user_timeout");
    check_option(detail::set_user_timeout(record.fd(), limit), record);
}

duration tcp_stream::user_timeout() const {
    const connection& record = open("user_timeout");
    duration value{};
    check_option(detail::get_user_timeout(record.fd(), value), record);
    return value;
}

void tcp_stream::set_linger(std::optional<saturating_duration> limit) {
    connection& record = open("set_linger");
    record.may_linger();
    check_option(detail::set_linger(record.fd(), limit), record);
}

std::optional<duration> tcp_stream::linger() const {
    const connection& record = open("linger");
    std::optional<duration> value{};
    check_option(detail::get_linger(record.fd(), value), record);
    return value;
}

void tcp_stream::set_receive_buffer_bytes(std::size_t value) {
    const connection& record = open("set_receive_buffer_bytes");
    check_option(detail::set_receive_buffer_bytes(record.fd(), value), record);
}

std::size_t tcp_stream::receive_buffer_bytes() const {
    const connection& record = open("receive_buffer_bytes");
    std::size_t value{};
    check_option(detail::get_receive_buffer_bytes(record.fd(), value), record);
    return value;
}

void tcp_stream::set_send_buffer_bytes(std::size_t value) {
    const connection& record = open("set_send_buffer_bytes");
    check_option(detail::set_send_buffer_bytes(record.fd(), value), record);
}

std::size_t tcp_stream::send_buffer_bytes() const {
    const connection& record = open("send_buffer_bytes");
    std::size_t value{};
    check_option(detail::get_send_buffer_bytes(record.fd(), value), record);
    return value;
}

endpoint tcp_stream::local_endpoint() const {
    return detail::local_address(open("local_endpoint").fd());
}

endpoint tcp_stream::remote_endpoint() const {
    return detail::peer_address(open("remote_endpoint").fd());
}

void tcp_stream::close() {
    connection& record = open("close");
    former_peer_ = detail::former_peer(record.fd());
    record_ = nullptr;
    descriptor::close(record);
}

int tcp_stream::native_handle() const {
    connection& record = open("native_handle");
    record.share("native_handle");
    record.may_linger();
    return record.fd();
}

std::size_t tcp_stream::pending() const {
    connection& record = open("pending");
    record.come_here("pending");
    return record.pending();
}

int tcp_stream::release() {
    connection& record = open("release");
    record.share("release");
    if (const std::size_t bytes = record.pending(); bytes != 0)
        throw_error(EBUSY, "release of the stream to " + detail::peer_name(record.fd()) + ": " +
                               std::to_string(bytes) +
                               " bytes have been received already; recv them first");
    if (const int error = record.take_error(); error != 0)
        throw_error(error, "release of the stream to " + detail::peer_name(record.fd()));
    former_peer_ = detail::former_peer(record.fd());
    record_ = nullptr;
    return descriptor::release(record);
}

} // namespace creel::io
