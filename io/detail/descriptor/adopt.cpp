#include <creel/io/detail/descriptor/adopt.hpp>

#include <creel/io/detail/descriptor/descriptor.hpp>
#include <creel/io/detail/socket/connection.hpp>
#include <creel/io/detail/socket/socket_options.hpp>
#include <creel/io/error.hpp>

#include <cerrno>
#include <string>
#include <string_view>
#include <system_error>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

namespace creel::io::detail {
namespace {

[[noreturn]] void refuse_adopt(int fd, int error, std::string_view what, std::string_view why,
                               bool can_be_awaited = false) {
    std::string text = "adopt of descriptor " + std::to_string(fd) + ": ";
    text.append(what).append(why);
    if (can_be_awaited)
        text += "; io::wait_readable and io::wait_writable wait for it";
    throw_error(error, text);
}

int integer_option(int fd, int option) {
    int value = 0;
    socklen_t length_bytes = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, option, &value, &length_bytes) == 0 ? value : -errno;
}

[[noreturn]] void refuse_other_than_socket(int fd) {
    constexpr std::string_view why = ", not a stream socket";
    struct stat status {};
    if (::fstat(fd, &status) == 0) {
        if (S_ISREG(status.st_mode))
            refuse_adopt(fd, ENOTSOCK, "a file", why);
        if (S_ISDIR(status.st_mode))
            refuse_adopt(fd, ENOTSOCK, "a directory", why);
        if (S_ISFIFO(status.st_mode))
            refuse_adopt(fd, ENOTSOCK, "a pipe", why, true);
        if (S_ISCHR(status.st_mode))
            refuse_adopt(fd, ENOTSOCK, ::isatty(fd) != 0 ? "a terminal" : "a device", why, true);
    }
    refuse_adopt(fd, ENOTSOCK, "no socket", {}, true);
}

[[noreturn]] void refuse_other_than_stream(int fd, int type) {
    constexpr std::string_view why = ", whose messages a stream would run together";
    if (type == SOCK_DGRAM)
        refuse_adopt(fd, EPROTOTYPE, "a datagram socket", why, true);
    if (type == SOCK_SEQPACKET)
        refuse_adopt(fd, EPROTOTYPE, "a SOCK_SEQPACKET socket", why, true);
    refuse_adopt(fd, EPROTOTYPE, "a socket of type " + std::to_string(type), why, true);
}

// After a reset getpeername() knows no peer, as if there had never been one. SO_PEERNAME still
// gives it; but it also gives the address that a socket is still connecting to.
bool was_connected(int fd) {
    sa_family_t family = AF_UNSPEC; // the option gives as much of the address as it is asked for
    socklen_t length_bytes = sizeof family;
    if (::getsockopt(fd, SOL_SOCKET, SO_PEERNAME, &family, &length_bytes) != 0)
        return false;
    tcp_info info{};
    length_bytes = sizeof info;
    return ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length_bytes) != 0 ||
           info.tcpi_state != TCP_SYN_SENT;
}

void require_connected_stream(int fd) {
    const int type = integer_option(fd, SO_TYPE);
    if (type == -ENOTSOCK)
        refuse_other_than_socket(fd);
    if (type < 0)
        refuse_adopt(fd, -type, type == -EBADF ? "not open" : "SO_TYPE", {});
    if (type != SOCK_STREAM)
        refuse_other_than_stream(fd, type);
    sockaddr_storage peer;
    socklen_t length_bytes = sizeof peer;
    if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length_bytes) == 0)
        return;
    if (const int error = errno; error != ENOTCONN)
        refuse_adopt(fd, error, "getpeername", {});
    if (integer_option(fd, SO_ACCEPTCONN) > 0)
        refuse_adopt(fd, EINVAL, "a socket that listens", "; a stream is what it accepts");
    if (!was_connected(fd))
        refuse_adopt(fd, ENOTCONN, "a stream socket that is not connected",
                     "; one that is connecting becomes writable, which io::wait_writable awaits");
}

} // namespace

connection* adopt_stream(int fd, const stream_options& options) {
    owned_fd own{fd};
    try {
        require_connected_stream(fd);
        if (const option_error error = set_options(fd, options))
            refuse_adopt(fd, error.error_number, error.option, {});
        connection* adopted = connection::adopt(owned_fd{own.release()});
        adopted->may_linger();
        return adopted;
    } catch (const std::system_error& error) {
        // A number that is not open may soon be another descriptor's. In a process without its
        // standard descriptors, other descriptors get the numbers 0 to 2.
        if (error.code() == std::errc::bad_file_descriptor || fd <= STDERR_FILENO)
            own.release();
        throw;
    }
}

} // namespace creel::io::detail
