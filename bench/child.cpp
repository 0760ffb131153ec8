#include "child.hpp"

#include "pin.hpp"
#include "system_call.hpp"

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <exception>
#include <stdexcept>

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace creel::bench {
namespace {

[[noreturn]] void run_child(pid_t parent, unsigned core, int pipe,
                            const std::function<void(int)>& body) {
    // If the parent has ended before prctl() the kernel sends no signal, but getppid() then returns
    // another process.
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent)
        _exit(1);
    try {
        pin_to_allowed_core(core);
        body(pipe);
        _exit(0);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "\nbench child: %s\n", error.what());
    } catch (...) {
        std::fprintf(stderr, "\nbench child: unknown exception\n");
    }
    _exit(1);
}

} // namespace

child::child(unsigned core, const std::function<void(int)>& body) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0)
        fail(errno, "pipe2");
    std::fflush(nullptr);
    const pid_t parent = getpid();
    pid_ = fork();
    if (pid_ == 0) {
        close(ends[0]);
        run_child(parent, core, ends[1], body);
    }
    const int error = errno;
    close(ends[1]);
    if (pid_ < 0) {
        close(ends[0]);
        fail(error, "fork");
    }
    pipe_ = ends[0];
}

child::~child() {
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    close(pipe_);
}

std::size_t child::read_some(char* data, std::size_t bytes, clock::time_point deadline) const {
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now());
        pollfd readable{pipe_, POLLIN, 0};
        const int ready = left.count() > 0 ? poll(&readable, 1, static_cast<int>(left.count())) : 0;
        if (ready == 0)
            throw std::runtime_error("no answer from the child process in time");
        const ssize_t got = ready > 0 ? read(pipe_, data, bytes) : -1;
        if (got >= 0)
            return static_cast<std::size_t>(got);
        if (errno != EINTR)
            fail(errno, "read from the child process");
    }
}

void child::read_exact(void* data, std::size_t bytes, int milliseconds) const {
    const auto deadline = clock::now() + std::chrono::milliseconds{milliseconds};
    for (auto* at = static_cast<char*>(data); bytes > 0;) {
        const std::size_t got = read_some(at, bytes, deadline);
        if (got == 0)
            throw std::runtime_error("the child process ended early");
        at += got;
        bytes -= got;
    }
}

std::string child::read_all(int milliseconds) const {
    const auto deadline = clock::now() + std::chrono::milliseconds{milliseconds};
    std::string text;
    std::array<char, 4096> part{};
    while (const std::size_t got = read_some(part.data(), part.size(), deadline))
        text.append(part.data(), got);
    return text;
}

} // namespace creel::bench
