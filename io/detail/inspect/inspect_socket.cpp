#include <creel/io/detail/inspect/inspect_socket.hpp>

#include <creel/io/detail/inspect/owned_descriptor.hpp>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <thread>

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

namespace creel::io::detail {

namespace {

constexpr std::string_view scheme = "unix:";

// Two processes that replace the same file at the same time could remove each other's: the lock of
// its folder lets one of them go first. A program that holds that lock for long must not hold us.
void lock_folder(int folder) noexcept {
    constexpr int most_tries = 50;
    for (int i = 0; folder >= 0 && i < most_tries; ++i) {
        if (::flock(folder, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
            return;
        std::this_thread::sleep_for(std::chrono::milliseconds{10});
    }
}

// The program may change its folder while the socket is there. A path that would be too long for a
// socket stays as it is.
std::string absolute(std::string_view path) {
    std::error_code none_found;
    std::string whole = std::filesystem::absolute(path, none_found).string();
    return none_found || whole.size() >= sizeof(sockaddr_un::sun_path) ? std::string{path} : whole;
}

std::string folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == path.npos ? "." : path.substr(0, slash + 1);
}

} // namespace

inspect_socket::inspect_socket(const std::string& address) : address_(address) {
    parse();
    descriptor_ = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor_ < 0)
        fail(errno, "there can be no socket");
    try {
        bind_to_name();
    } catch (...) {
        ::close(descriptor_);
        throw;
    }
}

inspect_socket::~inspect_socket() {
    struct stat now {};
    if (is_file_ && ::lstat(name_.sun_path, &now) == 0 && now.st_dev == made_.st_dev &&
        now.st_ino == made_.st_ino)
        ::unlink(name_.sun_path);
    ::close(descriptor_);
}

void inspect_socket::fail(int error, const std::string& why) const {
    throw std::system_error(error, std::generic_category(),
                            "io::run: inspect = \"" + address_ + "\": " + why);
}

void inspect_socket::parse() {
    if (address_.rfind(scheme, 0) != 0 || address_.size() == scheme.size())
        fail(EINVAL, "an address is \"unix:/run/app.sock\", or \"unix:@app\" for a name outside of "
                     "the file system");
    const std::string_view given = std::string_view{address_}.substr(scheme.size());
    if (given.find('\0') != given.npos)
        fail(EINVAL, "the name has a zero byte");
    // A path ends in a zero byte, a name outside of the file system begins with one.
    is_file_ = given.front() != '@';
    const std::string path = is_file_ ? absolute(given) : std::string{given};
    if (!is_file_ && path.size() == 1)
        fail(EINVAL, "there is no name behind the @");
    if (path.size() + (is_file_ ? 1 : 0) > sizeof name_.sun_path)
        fail(ENAMETOOLONG, "the name of a socket has at most " +
                               std::to_string(sizeof name_.sun_path - 1) + " bytes");
    name_.sun_family = AF_UNIX;
    std::memcpy(name_.sun_path, path.data(), path.size());
    if (!is_file_)
        name_.sun_path[0] = '\0';
    name_bytes_ =
        static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + (is_file_ ? 1 : 0));
}

void inspect_socket::bind_to_name() {
    // On Linux the file gets the mode of the socket.
    if (is_file_ && ::fchmod(descriptor_, S_IRUSR | S_IWUSR) != 0)
        fail(errno, "its mode cannot be set");
    const owned_descriptor folder{
        is_file_ ? ::open(folder_of(name_.sun_path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
                 : -1};
    lock_folder(folder.fd);
    const auto bind = [this] {
        return ::bind(descriptor_, reinterpret_cast<const sockaddr*>(&name_), name_bytes_) == 0;
    };
    if (!bind()) {
        if (errno != EADDRINUSE)
            fail(errno, "no socket can be made there");
        if (!is_file_)
            fail(EADDRINUSE, "another process, or another part of this one, has the name");
        replace_dead_file();
        if (!bind())
            fail(errno, "no socket can be made there");
    }
    if (is_file_ && ::lstat(name_.sun_path, &made_) != 0)
        made_ = {};
    // Before this no client can connect. The lock of the folder keeps other processes from taking
    // the file for a dead one.
    constexpr int most_waiting = 16;
    if (::listen(descriptor_, most_waiting) != 0) {
        const int error = errno;
        if (is_file_)
            ::unlink(name_.sun_path);
        fail(error, "the socket does not listen");
    }
}

void inspect_socket::replace_dead_file() {
    struct stat there {};
    if (::lstat(name_.sun_path, &there) == 0 && !S_ISSOCK(there.st_mode))
        fail(EEXIST, "the file is no socket");
    const owned_descriptor trial{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (trial.fd < 0)
        fail(errno, "there can be no socket");
    if (::connect(trial.fd, reinterpret_cast<const sockaddr*>(&name_), name_bytes_) == 0 ||
        errno == EAGAIN) // it has more clients than it takes
        fail(EADDRINUSE, "a live process listens there");
    if (errno == ENOENT) // it has just been removed
        return;
    if (errno != ECONNREFUSED)
        fail(errno, "the socket that is there is another's");
    if (::unlink(name_.sun_path) != 0 && errno != ENOENT)
        fail(errno, "the socket that a dead process has left there cannot be removed");
}

int inspect_socket::accept_client() const noexcept {
    for (;;) {
        const int client = ::accept4(descriptor_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (client < 0)
            return -1;
        ucred peer{};
        socklen_t bytes = sizeof peer;
        if (::getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 &&
            (peer.uid == ::geteuid() || peer.uid == 0))
            return client;
        ::close(client);
    }
}

} // namespace creel::io::detail
