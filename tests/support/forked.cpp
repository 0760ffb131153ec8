#include "support/forked.hpp"

#include <csignal>

#include <sys/wait.h>
#include <unistd.h>

namespace creel::test {

int status_of_fork(const std::function<void()>& f) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::alarm(20);
        f();
        ::_exit(0);
    }
    int status = -1;
    ::waitpid(child, &status, 0);
    return status;
}

bool was_aborted(int status) {
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

} // namespace creel::test
