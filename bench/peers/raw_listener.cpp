#include "raw_listener.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace creel::bench::peers {

raw_listener raw_listen() {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        raw_fail("socket", errno);
    const int yes = 1;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes) != 0)
        raw_fail("TCP_NODELAY", errno);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
        raw_fail("listen on 127.0.0.1", errno);
    return {fd, ntohs(address.sin_port)};
}

void raw_fail(const char* what, int error) {
    std::fprintf(stderr, "\nraw server: %s: %s\n", what, std::strerror(error));
    _exit(1);
}

} // namespace creel::bench::peers
