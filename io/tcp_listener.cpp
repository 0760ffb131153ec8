#include <creel/io/tcp_listener.hpp>

#include <creel/io/detail/socket/acceptor.hpp>
#include <creel/io/detail/socket/connection.hpp>
#include <creel/io/detail/socket/former_name.hpp>
#include <creel/io/detail/socket/sockaddr.hpp>
#include <creel/io/detail/socket/socket_options.hpp>
#include <creel/io/error.hpp>

#include <cerrno>

#include <netinet/in.h>
#include <sys/socket.h>

namespace creel::io {

using detail::acceptor;
using detail::descriptor;

namespace {

void set_option(int fd, int level, int option, bool on, const endpoint& where) {
    const int value = on ? 1 : 0;
    if (::setsockopt(fd, level, option, &value, sizeof value) < 0)
        throw_error(errno, "listen on " + where.to_string());
}

acceptor* listen_on(const endpoint& where, const listen_options& options) {
    sockaddr_storage address;
    const socklen_t length_bytes = detail::sockaddr_of(where, address);
    const int fd = ::socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        throw_error(errno, "listen on " + where.to_string());
    detail::owned_fd listening{fd};
    if (where.family() != address_family::local) {
        set_option(fd, SOL_SOCKET, SO_REUSEADDR, options.reuse_address, where);
        if (options.reuse_port)
            set_option(fd, SOL_SOCKET, SO_REUSEPORT, true, where);
    }
    if (where.family() == address_family::ipv6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, options.v6_only, where);
    // On Linux the accepted sockets inherit them, without a system call for each.
    if (const detail::option_error error = detail::set_options(fd, options.accepted))
        throw_error(error.error_number, "listen on " + where.to_string() + ": " + error.option);
    if (::bind(fd, reinterpret_cast<const sockaddr*>(&address), length_bytes) < 0)
        throw_error(errno, "listen on " + where.to_string() +
                               (errno == EADDRINUSE && where.family() == address_family::local
                                    ? " (a socket file that no server uses has to be removed first)"
                                    : ""));
    if (::listen(fd, options.backlog) < 0)
        throw_error(errno, "listen on " + where.to_string());
    return acceptor::adopt(detail::owned_fd{listening.release()});
}

} // namespace

tcp_listener::tcp_listener(const endpoint& where, listen_options options)
    : record_(listen_on(where, options)) {}

tcp_listener::~tcp_listener() {
    if (record_ != nullptr)
        descriptor::drop(*record_);
}

tcp_listener& tcp_listener::operator=(tcp_listener&& other) noexcept {
    acceptor* theirs = std::exchange(other.record_, nullptr);
    if (acceptor* old = std::exchange(record_, theirs); old != nullptr)
        descriptor::drop(*old);
    former_address_ = std::move(other.former_address_);
    return *this;
}

acceptor& tcp_listener::open(const char* call) const {
    if (record_ == nullptr) [[unlikely]]
        detail::throw_not_open(call, "the listener on ", former_address_.get());
    return *record_;
}

tcp_stream tcp_listener::accept() {
    acceptor& record = open("accept");
    const bool lingers = record.lingers(); // a connection inherits the listener's options
    detail::connection* accepted = detail::connection::adopt(record.accept());
    if (lingers)
        accepted->may_linger();
    return tcp_stream{accepted};
}

endpoint tcp_listener::local_endpoint() const {
    return detail::local_address(open("local_endpoint").fd());
}

void tcp_listener::close() {
    acceptor& record = open("close");
    former_address_ = detail::former_address(record.fd());
    record_ = nullptr;
    descriptor::close(record);
}

int tcp_listener::native_handle() const {
    acceptor& record = open("native_handle");
    record.be_found_here("native_handle");
    record.may_linger();
    return record.fd();
}

} // namespace creel::io
