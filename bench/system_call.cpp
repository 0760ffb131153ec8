#include "system_call.hpp"

#include <cerrno>
#include <system_error>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

namespace creel::bench {

void fail(int error, const std::string& what) {
    throw std::system_error(error, std::system_category(), what);
}

std::uint64_t nanoseconds(clockid_t clock) {
    timespec now{};
    if (clock_gettime(clock, &now) != 0)
        fail(errno, "clock_gettime");
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
           static_cast<std::uint64_t>(now.tv_nsec);
}

clockid_t cpu_clock_of(pid_t process) {
    clockid_t clock{};
    if (const int error = clock_getcpuclockid(process, &clock); error != 0)
        fail(error, "clock_getcpuclockid");
    return clock;
}

void raise_descriptor_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail(errno, "getrlimit(RLIMIT_NOFILE)");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail(errno, "setrlimit(RLIMIT_NOFILE)");
}

int connect_to_loopback(std::uint16_t port) {
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        fail(errno, "socket");
    const linger reset{1, 0};
    if (setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) != 0)
        fail(errno, "SO_LINGER");
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        fail(errno, "connect to 127.0.0.1");
    return fd;
}

} // namespace creel::bench
