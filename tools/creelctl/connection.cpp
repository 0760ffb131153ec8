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

// False: the deadline has passed.
bool wait_with_poll(int descriptor, short events, steady::time_point deadline) {
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady::now());
        if (left.count() < 0)
            return false;
        pollfd one{descriptor, events, 0};
        const int ready = ::poll(&one, 1, static_cast<int>(left.count()));
        if (ready > 0)
            return true;
        if (ready < 0 && errno != EINTR)
            return false;
    }
}

using wait_function = decltype(ask_options::wait);

void connect_to(const descriptor& to, const std::string& address, const wait_function& wait,
                steady::time_point deadline) {
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
        constexpr int no_descriptor = -1;
        static_cast<void>(wait(no_descriptor, 0, steady::now() + std::chrono::milliseconds{10}));
    }
}

uid_t user_behind(const descriptor& to, const std::string& address) {
    ucred peer{};
    socklen_t bytes = sizeof peer;
    if (::getsockopt(to.fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) != 0)
        fail(errno, address);
    return peer.uid;
}

// Another user's socket would answer no one but root and its user; or it is not what it seems.
void check_user(uid_t user, const std::string& address) {
    if (user != ::geteuid() && user != 0 && ::geteuid() != 0)
        throw failure{no_permission, address + ": user " + std::to_string(user) +
                                         " listens there: only that user, and root, may look"};
}

void send_line(const descriptor& to, const std::string& address, const std::string& line,
               const wait_function& wait, steady::time_point deadline) {
    const std::string whole = line + '\n';
    for (std::string_view rest = whole; !rest.empty();) {
        if (!wait(to.fd, POLLOUT, deadline))
            throw failure{no_answer, address + ": the process takes no request"};
        const ssize_t sent = ::send(to.fd, rest.data(), rest.size(), MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR)
            return; // it has closed; perhaps it has said why
        rest.remove_prefix(static_cast<std::size_t>(sent > 0 ? sent : 0));
    }
}

std::string receive_all(const descriptor& from, const std::string& address,
                        const ask_options& options, const wait_function& wait,
                        steady::time_point deadline) {
    std::string all;
    std::array<char, 65536> piece{};
    for (;;) {
        if (!wait(from.fd, POLLIN, deadline))
            throw failure{no_answer, address + ": the process has not answered in time"};
        const ssize_t got = ::recv(from.fd, piece.data(), piece.size(), 0);
        if (got > 0)
            all.append(piece.data(), static_cast<std::size_t>(got));
        else if (got == 0 || (errno != EAGAIN && errno != EINTR))
            return all;
        if (all.size() > options.most_bytes)
            throw failure{no_answer, address + ": the answer has more than " +
                                         std::to_string(options.most_bytes) + " bytes"};
    }
}

} // namespace

answer ask(const std::string& address, const std::string& line, const ask_options& options) {
    const steady::time_point deadline = steady::now() + options.patience;
    const wait_function wait = options.wait ? options.wait : wait_function{&wait_with_poll};
    const descriptor to{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (to.fd < 0)
        fail(errno, address);
    connect_to(to, address, wait, deadline);
    answer got;
    got.user = user_behind(to, address);
    check_user(got.user, address);
    send_line(to, address, line, wait, deadline);
    got.text = receive_all(to, address, options, wait, deadline);
    if (got.text.empty())
        throw failure{no_answer, address + ": the process has closed the connection: it has just "
                                           "ended, is of another user, or has no creel there"};
    constexpr std::string_view error = "error: ";
    if (got.text.compare(0, error.size(), error) == 0)
        throw failure{refused, got.text.substr(error.size(), got.text.find('\n') - error.size())};
    return got;
}

std::string of_other_user(const answer& a) {
    return a.user == ::geteuid() ? std::string{} : " of user " + std::to_string(a.user);
}

} // namespace creelctl
