// The best epoll echo server that we can write by hand. It is edge-triggered, so that no descriptor
// is polled again after it was served. Its receive buffer is larger than a message, so that a short
// read proves that the socket is drained (epoll(7), question 9) and saves the call that would
// return EAGAIN. All connections share one buffer, because the server sends at once what it has
// read. Level-triggered epoll measured the same here. The style is C on purpose.

#include "../echo/server.hpp"
#include "raw_listener.hpp"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

namespace creel::bench::peers {
namespace {

constexpr int batch = 512;
constexpr int most_descriptors = 20000;
constexpr std::size_t buffer_bytes = 65536;

// The part of a reply that the socket did not take, because the peer is slow. While there is any,
// nothing more is read from this peer.
struct unsent {
    char* data;
    std::size_t begin;
    std::size_t end;
};

char buffer[buffer_bytes];
unsent backlog[most_descriptors]; // by descriptor

void drop(int fd) {
    std::free(backlog[fd].data);
    backlog[fd] = {};
    close(fd);
}

// Returns how many bytes the socket took, or -1 when the connection is broken.
ssize_t send_some(int fd, const char* data, std::size_t bytes) {
    std::size_t sent = 0;
    while (sent < bytes) {
        const ssize_t result = send(fd, data + sent, bytes - sent, MSG_NOSIGNAL);
        if (result >= 0)
            sent += static_cast<std::size_t>(result);
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR)
            return -1;
    }
    return static_cast<ssize_t>(sent);
}

// Keeps the bytes that the socket did not take. Returns false when there is no memory for them.
bool keep(int fd, const char* data, std::size_t bytes) {
    auto* copy = static_cast<char*>(std::malloc(bytes));
    if (copy == nullptr)
        return false;
    std::memcpy(copy, data, bytes);
    backlog[fd] = {copy, 0, bytes};
    return true;
}

// Sends the bytes that keep() has kept. Returns false when the connection is over.
bool flush(int fd) {
    unsent& rest = backlog[fd];
    const ssize_t sent = send_some(fd, rest.data + rest.begin, rest.end - rest.begin);
    if (sent < 0)
        return false;
    rest.begin += static_cast<std::size_t>(sent);
    if (rest.begin == rest.end) {
        std::free(rest.data);
        rest = {};
    }
    return true;
}

// Echoes until the socket is drained or takes no more. A short read proves that the socket is
// drained, but not that the peer is still there: after a hang-up only recv itself tells that.
// Returns false when the connection is over.
bool echo_all(int fd, bool hung_up) {
    for (;;) {
        const ssize_t got = recv(fd, buffer, buffer_bytes, 0);
        if (got == 0)
            return false;
        if (got < 0) {
            if (errno == EINTR)
                continue;
            return errno == EAGAIN;
        }
        const auto bytes = static_cast<std::size_t>(got);
        const ssize_t sent = send_some(fd, buffer, bytes);
        if (sent < 0)
            return false;
        if (static_cast<std::size_t>(sent) < bytes)
            return keep(fd, buffer + sent, bytes - static_cast<std::size_t>(sent));
        if (bytes < buffer_bytes && !hung_up)
            return true;
    }
}

void handle(int fd, unsigned events) {
    if (backlog[fd].data != nullptr) {
        if (!flush(fd)) {
            drop(fd);
            return;
        }
        if (backlog[fd].data != nullptr)
            return;
    }
    if (!echo_all(fd, (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0))
        drop(fd);
}

void accept_all(int poll, int listener) {
    for (;;) {
        const int fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EAGAIN)
                return;
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            raw_fail("accept4", errno);
        }
        if (fd >= most_descriptors) {
            close(fd);
            continue;
        }
        epoll_event event{};
        event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
        event.data.fd = fd;
        if (epoll_ctl(poll, EPOLL_CTL_ADD, fd, &event) != 0)
            raw_fail("epoll_ctl", errno);
    }
}

void serve(int port_pipe) {
    const raw_listener listener = raw_listen();
    const int poll = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = listener.descriptor;
    if (poll < 0 || epoll_ctl(poll, EPOLL_CTL_ADD, listener.descriptor, &event) != 0)
        raw_fail("epoll", errno);
    echo::report_port(port_pipe, listener.port);
    static epoll_event events[batch];
    for (;;) {
        const int count = epoll_wait(poll, events, batch, -1);
        if (count < 0 && errno != EINTR)
            raw_fail("epoll_wait", errno);
        for (int i = 0; i < count; ++i) {
            if (events[i].data.fd == listener.descriptor)
                accept_all(poll, listener.descriptor);
            else
                handle(events[i].data.fd, events[i].events);
        }
    }
}

const echo::server_registration here{"raw_epoll", true, serve};

} // namespace
} // namespace creel::bench::peers
