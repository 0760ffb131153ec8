#include <creel/fibers/detail/blocking/helper_thread.hpp>

#include <creel/fibers/detail/system/foreign_threads.hpp>

#include <array>
#include <cerrno>
#include <new>

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

namespace creel::detail {

namespace {

constexpr std::array raised_by_faults{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS};

struct cores {
    cpu_set_t set;
    bool known;
};

// The cores of the main thread: a pinned thread may load the library that creel is in. Unknown on a
// machine of more than 1,024 cores; helper threads then inherit their cores.
cores cores_of_process() noexcept {
    cores found{};
    found.known = ::sched_getaffinity(::getpid(), sizeof found.set, &found.set) == 0;
    return found;
}

const cores at_start = cores_of_process();

struct helper_start {
    void* (*body)(void*);
    void* argument;
};

void* run_as_own_thread(void* start) noexcept {
    const own_thread here;
    const helper_start mine = *static_cast<helper_start*>(start);
    delete static_cast<helper_start*>(start);
    return mine.body(mine.argument);
}

} // namespace

sigset_t helper_signals() noexcept {
    sigset_t blocked;
    sigfillset(&blocked);
    for (const int number : raised_by_faults)
        sigdelset(&blocked, number);
    return blocked;
}

// The new thread inherits the mask of the calling thread, so it has the right mask from its first
// instruction on.
int start_joinable_helper_thread(pthread_t& started, void* (*body)(void*),
                                 void* argument) noexcept {
    auto* const start = new (std::nothrow) helper_start{body, argument};
    if (start == nullptr)
        return EAGAIN;
    const sigset_t blocked = helper_signals();
    sigset_t before;
    ::pthread_sigmask(SIG_SETMASK, &blocked, &before);
    const int error = ::pthread_create(&started, nullptr, &run_as_own_thread, start);
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (error != 0)
        delete start;
    return error;
}

int start_helper_thread(void* (*body)(void*), void* argument) noexcept {
    pthread_t started{};
    const int error = start_joinable_helper_thread(started, body, argument);
    if (error == 0)
        ::pthread_detach(started);
    return error;
}

void leave_pinned_core() noexcept {
    if (at_start.known)
        ::sched_setaffinity(0, sizeof at_start.set, &at_start.set);
}

} // namespace creel::detail
