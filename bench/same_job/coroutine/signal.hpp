#pragma once

// co_await termination.wait(): until SIGTERM comes. Construct it before anything else runs.

#include "operation.hpp"

#include <cerrno>
#include <csignal>
#include <system_error>

#include <sys/signalfd.h>
#include <unistd.h>

namespace same_job::coroutine {

class termination_signal {
public:
    termination_signal() {
        sigset_t signals;
        sigemptyset(&signals);
        sigaddset(&signals, SIGTERM);
        sigprocmask(SIG_BLOCK, &signals, nullptr);
        fd_ = signalfd(-1, &signals, SFD_CLOEXEC);
        if (fd_ < 0)
            throw std::system_error{errno, std::system_category(), "signalfd"};
    }
    termination_signal(const termination_signal&) = delete;
    termination_signal& operator=(const termination_signal&) = delete;
    ~termination_signal() { close(fd_); }

    class awaiter : public operation {
    public:
        explicit awaiter(int fd) noexcept : fd_(fd) {}
        template <task_promise Promise>
        void await_suspend(std::coroutine_handle<Promise> waiting) {
            io_uring_sqe& e = begin(waiting, *waiting.promise().scope);
            io_uring_prep_read(&e, fd_, &signal_, sizeof signal_, 0);
        }
        void await_resume() const { static_cast<void>(result("signalfd")); }

    private:
        int fd_;
        signalfd_siginfo signal_{};
    };
    [[nodiscard]] awaiter wait() const noexcept { return awaiter{fd_}; }

private:
    int fd_ = -1;
};

} // namespace same_job::coroutine
