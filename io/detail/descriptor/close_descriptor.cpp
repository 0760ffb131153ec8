#include <creel/io/detail/descriptor/close_descriptor.hpp>

#include <atomic>
#include <csignal>
#include <system_error>
#include <thread>

#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

namespace creel::io::detail {
namespace {

// The most sockets that linger at one time, each with a thread: peers that acknowledge nothing must
// not cost more threads.
constexpr int most_lingering = 8;
std::atomic<int> lingering{0};
static_assert(std::atomic<int>::is_always_lock_free);

bool would_wait(int fd) noexcept {
    linger option{};
    socklen_t size_bytes = sizeof option;
    return ::getsockopt(fd, SOL_SOCKET, SO_LINGER, &option, &size_bytes) == 0 &&
           option.l_onoff != 0 && option.l_linger > 0;
}

// On a thread of its own, which takes no signal of the program's. False: there is no thread for it.
bool close_elsewhere(int fd) noexcept {
    if (lingering.fetch_add(1) >= most_lingering) {
        lingering.fetch_sub(1);
        return false;
    }
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    bool made = true;
    try {
        std::thread{[fd] {
            ::close(fd);
            lingering.fetch_sub(1);
        }}.detach();
    } catch (const std::exception&) { // std::system_error, std::bad_alloc
        lingering.fetch_sub(1);
        made = false;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return made;
}

} // namespace

void close_descriptor(int fd, bool may_linger) noexcept {
    if (fd <= STDERR_FILENO)
        return;
    if (may_linger && would_wait(fd)) {
        if (close_elsewhere(fd))
            return;
        // Linux sends the rest of the data all the same (tcp_close). Only the wait is left out.
        const linger at_once{.l_onoff = 0, .l_linger = 0};
        ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    // close(2) and not IORING_OP_CLOSE: it costs the same in the kernel, and needs no switch.
    ::close(fd);
}

} // namespace creel::io::detail
