#include "child_process.hpp"

#include <creel/io/readiness.hpp>

#include <array>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <unistd.h>
#include <utility>

namespace io = creel::io;

namespace demo {

namespace {

int check(int result, const char* what) {
    if (result < 0)
        throw std::system_error{errno, std::generic_category(), what};
    return result;
}

// Blocks all signals of this thread while the object lives.
class signals_blocked {
public:
    signals_blocked() {
        sigset_t all;
        ::sigfillset(&all);
        ::pthread_sigmask(SIG_SETMASK, &all, &before_);
    }
    ~signals_blocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    signals_blocked(const signals_blocked&) = delete;
    signals_blocked& operator=(const signals_blocked&) = delete;

private:
    sigset_t before_{};
};

// The child has the parent's handlers until exec: a signal would now run them in the wrong process,
// and be lost. Signals that are ignored stay ignored (nohup).
void forget_handlers() noexcept {
    for (int signal = 1; signal < NSIG; ++signal) {
        struct sigaction now {};
        if (::sigaction(signal, nullptr, &now) != 0 || now.sa_handler == SIG_IGN)
            continue;
        if (signal == SIGINT) // ignoring drops one that came before setpgid: it was the parent's
            ::signal(signal, SIG_IGN);
        ::signal(signal, SIG_DFL);
    }
}

// Runs between fork and exec, with all signals blocked. It may only do what a signal handler may
// do.
[[noreturn]] void become(const std::vector<char*>& arguments, int output, pid_t parent) noexcept {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) // the parent ended before prctl
        ::_exit(1);
    // A process group of its own: Ctrl-C goes to the parent, which ends the others in order.
    ::setpgid(0, 0);
    forget_handlers();
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::dup2(output, STDOUT_FILENO);
    ::execv("/proc/self/exe", arguments.data());
    ::_exit(127);
}

} // namespace

child_process::child_process(std::string name, std::vector<std::string> arguments)
    : name_(std::move(name)) {
    arguments.insert(arguments.begin(), "demo");
    std::vector<char*> pointers;
    for (std::string& argument : arguments)
        pointers.push_back(argument.data());
    pointers.push_back(nullptr);

    std::array<int, 2> ends{};
    check(::pipe2(ends.data(), O_CLOEXEC), "pipe");
    output_ = ends[0];
    pid_t parent = ::getpid();
    int fork_error = 0;
    {
        signals_blocked until_forked;
        pid_ = ::fork();
        if (pid_ == 0)
            become(pointers, ends[1], parent);
        fork_error = errno;
    }
    ::close(ends[1]);
    if (pid_ > 0)
        pid_fd_ = static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0U));
    if (pid_ < 0 || pid_fd_ < 0) {
        int error = pid_ < 0 ? fork_error : errno;
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
        ::close(output_);
        throw std::system_error{error, std::generic_category(), "start " + name_};
    }
}

child_process::~child_process() {
    if (!status_) {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0); // short, because the process is being killed
    }
    ::close(pid_fd_);
    ::close(output_);
}

std::optional<std::string> child_process::read_line() {
    for (;;) {
        if (std::size_t end = read_.find('\n'); end != std::string::npos) {
            std::string line = read_.substr(0, end);
            read_.erase(0, end + 1);
            return line;
        }
        io::wait_readable(output_);
        std::array<char, 4096> bytes;
        int count = check(static_cast<int>(::read(output_, bytes.data(), bytes.size())),
                          "read from a pipe");
        if (count == 0)
            return {};
        read_.append(bytes.data(), static_cast<std::size_t>(count));
    }
}

int child_process::wait() {
    while (!status_) {
        io::wait_readable(pid_fd_);
        int raw = 0;
        if (!status_ && check(::waitpid(pid_, &raw, WNOHANG), "waitpid") == pid_)
            status_ = WIFEXITED(raw) ? WEXITSTATUS(raw) : 128 + WTERMSIG(raw);
    }
    return *status_;
}

void child_process::terminate() noexcept {
    if (!status_)
        ::kill(pid_, SIGTERM);
}

} // namespace demo
