#include "support/child_process.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

namespace creel::test {
namespace {

using clock = std::chrono::steady_clock;

constexpr std::size_t captured_bytes_limit = std::size_t{1} << 20;

[[noreturn]] void fail(const char* what) {
    throw std::system_error(errno, std::generic_category(), what);
}

class descriptor {
public:
    explicit descriptor(int number) noexcept : number_(number) {}
    descriptor(descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
    descriptor& operator=(descriptor&&) = delete;
    ~descriptor() { close(); }

    [[nodiscard]] int get() const noexcept { return number_; }
    void close() noexcept {
        if (number_ >= 0)
            ::close(std::exchange(number_, -1));
    }

private:
    int number_;
};

// Until the parent has waited for a child, no other process can get the child's number. So killing
// it by number is safe.
class child {
public:
    explicit child(pid_t pid) noexcept : pid_(pid) {}
    child(const child&) = delete;
    child& operator=(const child&) = delete;
    ~child() {
        if (pid_ > 0) {
            kill();
            wait();
        }
    }

    void kill() noexcept { ::kill(pid_, SIGKILL); }

    // Returns the wait status.
    int wait() noexcept {
        int status = 0;
        while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
        }
        pid_ = -1;
        return status;
    }

private:
    pid_t pid_;
};

// It is noexcept, so that an exception terminates here, and no handler of the parent can catch it.
[[noreturn]] void run_body(const std::function<void()>& body, int error_pipe,
                           pid_t parent) noexcept {
    // 1 and not 0: if cores go to a program, the kernel ignores each limit but this one
    // (fs/coredump.c); if they go to a file, it writes none that is shorter than a page.
    const rlimit no_core{1, 1};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) // the parent ended before prctl
        ::_exit(1);
    while (::dup2(error_pipe, STDERR_FILENO) < 0 && errno == EINTR) {
    }
    body();
    std::clog.flush();
    std::fflush(stderr);
    ::_exit(0);
}

// Reads without waiting what is in the pipe, at least as much as a pipe holds (64 KiB), but not for
// ever: a child that never stops writing must not make the parent miss the limit. Returns false at
// the end of the stream.
bool drain(int from, std::string& into) {
    std::array<char, 4096> buffer;
    for (int reads = 0; reads < 64; ++reads) {
        const ssize_t count = ::read(from, buffer.data(), buffer.size());
        if (count > 0) {
            const std::size_t room = captured_bytes_limit - into.size();
            into.append(buffer.data(), std::min(static_cast<std::size_t>(count), room));
        } else if (count == 0) {
            return false;
        } else if (errno != EINTR) {
            return true; // EAGAIN; any other error shows as missing text
        }
    }
    return true;
}

int milliseconds_until(clock::time_point deadline) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
    return static_cast<int>(std::clamp<long long>(left, 0, 60'000));
}

} // namespace

child_result run_in_child(const std::function<void()>& body, std::chrono::milliseconds limit) {
    const auto deadline = clock::now() + limit;
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0)
        fail("pipe for a child's stderr");
    descriptor reader{ends[0]};
    descriptor writer{ends[1]};
    // Only the parent's end: the flag belongs to the open file, and the child's stderr must block.
    if (::fcntl(reader.get(), F_SETFL, O_NONBLOCK) != 0)
        fail("fcntl on a child's stderr");

    const pid_t parent = ::getpid();
    const pid_t pid = ::fork();
    if (pid < 0)
        fail("fork");
    if (pid == 0)
        run_body(body, writer.get(), parent);
    child running{pid};
    writer.close();
    // By number: glibc 2.36 declares pidfd_open without extern "C".
    const descriptor end{static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))};
    if (end.get() < 0)
        fail("pidfd_open");

    child_result result;
    bool killed = false;
    // A child may close the pipe before it ends, and a grandchild may hold the pipe after the child
    // has ended. So the end of the process decides, and a pipe at its end is no longer polled.
    std::array<pollfd, 2> events{pollfd{end.get(), POLLIN, 0}, pollfd{reader.get(), POLLIN, 0}};
    for (;;) {
        const int wait_ms = milliseconds_until(deadline);
        const int ready = ::poll(events.data(), events.size(), wait_ms);
        if (ready < 0 && errno != EINTR)
            fail("poll for a child");
        if (ready > 0 && events[1].revents != 0 && !drain(reader.get(), result.stderr_text))
            events[1].fd = -1;
        if (ready > 0 && events[0].revents != 0)
            break;
        if (clock::now() >= deadline) {
            killed = true;
            running.kill();
            break;
        }
    }
    const int status = running.wait();
    drain(reader.get(), result.stderr_text);
    result.exited = WIFEXITED(status);
    result.exit_code = result.exited ? WEXITSTATUS(status) : 0;
    result.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    result.timed_out = killed && result.signal == SIGKILL; // it may have ended before the kill
    return result;
}

std::string to_string(const child_result& result) {
    std::string text = "child ";
    if (result.exited) {
        text += "exited with code " + std::to_string(result.exit_code);
    } else {
        const char* description = ::sigdescr_np(result.signal);
        text += "was killed by signal " + std::to_string(result.signal) + " (" +
                (description != nullptr ? description : "unknown") + ")";
    }
    if (result.timed_out)
        text += " at the time limit";
    return text + "; its stderr:\n" + result.stderr_text;
}

} // namespace creel::test
