#include "support/unix_client.hpp"

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

namespace creel::test {

unix_client::unix_client(const std::string& address)
    : descriptor_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    std::memcpy(name.sun_path, address.data(), address.size());
    if (address.front() == '@')
        name.sun_path[0] = '\0';
    const auto bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.size() +
                                              (address.front() == '@' ? 0 : 1));
    const timeval limit{30, 0};
    ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (::connect(descriptor_, reinterpret_cast<const sockaddr*>(&name), bytes) != 0)
        error_ = errno;
}

unix_client::~unix_client() {
    ::close(descriptor_);
}

void unix_client::send(const std::string& text) const {
    static_cast<void>(::send(descriptor_, text.data(), text.size(), MSG_NOSIGNAL));
}

std::string unix_client::receive_all() const {
    std::string all;
    std::array<char, 4096> piece{};
    for (;;) {
        const ssize_t got = ::recv(descriptor_, piece.data(), piece.size(), 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return all;
        all.append(piece.data(), static_cast<std::size_t>(got));
    }
}

std::string ask_unix(const std::string& address, const std::string& line) {
    const unix_client client{address};
    client.send(line + '\n');
    return client.receive_all();
}

temporary_folder::temporary_folder() : path_("/tmp/creel-test-XXXXXX") {
    if (::mkdtemp(path_.data()) == nullptr)
        throw std::system_error(errno, std::generic_category(), "mkdtemp");
}

temporary_folder::~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

} // namespace creel::test
