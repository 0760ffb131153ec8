// Peers that a test makes without creel.
#pragma once

#include "clean_run.hpp"

#include <cerrno>
#include <cstdint>
#include <system_error>
#include <utility>

#include <netinet/in.h>
#include <sys/socket.h>

namespace creel::test {

class raw_socket {
public:
    explicit raw_socket(int fd) : fd_(fd) {
        if (fd < 0)
            throw std::system_error(errno, std::generic_category(), "a raw socket");
    }
    raw_socket(raw_socket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    raw_socket& operator=(raw_socket&&) = delete;
    ~raw_socket() {
        if (fd_ >= 0)
            ::close(fd_);
    }
    [[nodiscard]] int get() const { return fd_; }

private:
    int fd_;
};

inline sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

// Connects at once, because the backlog has room. Its close sends a reset, so that no port is used
// up.
inline raw_socket raw_client(std::uint16_t port) {
    raw_socket client{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    const sockaddr_in to = loopback(port);
    if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) < 0)
        throw std::system_error(errno, std::generic_category(), "a raw connect");
    reset_on_close(client.get());
    return client;
}

} // namespace creel::test
