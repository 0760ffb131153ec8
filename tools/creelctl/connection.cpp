#include "connection.hpp"

#include "failure.hpp"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string_view>

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace creelctl {

namespace {

using steady = std::chrono::steady_clock;

struct descriptor {
    explicit descriptor(int number) noexcept : fd(number) {}
    ~descriptor() {
        if (fd >= 0)
            ::close(fd);
    }
    descriptor(const descriptor&) = delete;
    descriptor& operator=(const descriptor&) = delete;
    const int fd;
};

[[noreturn]] void fail(int error, const std::string& address) {
    const std::string text = address + ": " + std::strerror(error);
    if (error == EACCES || error == EPERM)
        throw failure{no_permission, text + ": only the user of the process, and root, may look"};
    if (error == ECONNREFUSED)
        throw failure{no_socket, address + ": no process listens there (any more)"};
    throw failure{no_socket, text};
}

void connect_to(const descriptor& to, const std::string& address, steady::time_point deadline) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    if (address.empty() || address.size() >= sizeof name.sun_path)
        throw failure{no_socket, address + ": this is no name of a socket"};
    std::memcpy(name.sun_path, address.data(), address.size());
    const bool is_file = address.front() != '@';
    if (!is_file)
        name.sun_path[0] = '\0';
    const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size() +
                                              (is_file ? 1 : 0));
    // A socket with too many clients refuses for a moment.
    while (::connect(to.fd, reinterpret_cast<const sockaddr*>(&name), bytes) != 0) {
        if (errno != EAGAIN && errno != EINTR)
            fail(errno, address);
        if (steady::now() >= deadline)
            throw failure{no_answer, address + ": the process takes no more clients"};
        ::usleep(10'000);
    }
}

// Waits until the descriptor is ready for `events`. False: the deadline has passed.
bool becomes_ready(const descriptor& d, short events, steady::time_point deadline) {
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady::now());
        if (left.count() < 0)
            return false;
        pollfd one{d.fd, events, 0};
        const int ready = ::poll(&one, 1, static_cast<int>(left.count()));
        if (ready > 0)
            return true;
        if (ready < 0 && errno != EINTR)
            return false;
    }
}

} // namespace

std::string ask(const std::string& address, const std::string& line,
                std::chrono::milliseconds patience) {
    const steady::time_point deadline = steady::now() + patience;
    const descriptor to{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (to.fd < 0)
        fail(errno, address);
    connect_to(to, address, deadline);
    const std::string whole = line + '\n';
    for (std::string_view rest = whole; !rest.empty();) {
        if (!becomes_ready(to, POLLOUT, deadline))
            throw failure{no_answer, address + ": the process takes no request"};
        const ssize_t sent = ::send(to.fd, rest.data(), rest.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            break; // it has closed; perhaps it has said why
        rest.remove_prefix(static_cast<std::size_t>(sent > 0 ? sent : 0));
    }
    std::string answer;
    std::array<char, 65536> piece{};
    for (;;) {
        if (!becomes_ready(to, POLLIN, deadline))
            throw failure{no_answer, address + ": the process has not answered in time"};
        const ssize_t got = ::recv(to.fd, piece.data(), piece.size(), 0);
        if (got > 0)
            answer.append(piece.data(), static_cast<std::size_t>(got));
        else if (got == 0 || (errno != EAGAIN && errno != EINTR))
            break;
    }
    if (answer.empty())
        throw failure{no_permission, address + ": the process has closed the connection: only its "
                                               "user, and root, may look; or it has just ended"};
    constexpr std::string_view error = "error: ";
    if (answer.compare(0, error.size(), error) == 0)
        throw failure{refused, answer.substr(error.size(), answer.find('\n') - error.size())};
    return answer;
}

} // namespace creelctl
