// Sees that a run does not switch fibers, while it happens: a fiber computes, or has called
// something that blocks the thread, and all others wait. io::run has one in debug mode, or if it is
// given a stall_threshold:
//
//     creel: thread 4711 "server" has not switched fibers for 103ms: worker (#5, spawned at
//     server.cpp:42) sleeps in clock_nanosleep
//         usleep in /lib/x86_64-linux-gnu/libc.so.6 +0xe9a3d
//         operator() at server.cpp:43
//       creel::this_fiber::sleep_for() lets other fibers run meanwhile
//     creel: thread 4711 "server" switches fibers again, after 2s: worker (#5, spawned at ...)
//
// A thread of creel's own looks at the run several times within the threshold. The run does nothing
// for it, so a switch costs no more. A run that waits for events, a process that is stopped, and a
// thread that a debugger holds are no stalls.
#pragma once

#include <creel/fibers/build_check.hpp>
#include <creel/fibers/dump_thread.hpp>
#include <creel/fibers/time.hpp>

#include <chrono>
#include <string>

namespace creel {

namespace detail {
class scheduler;
}

struct stall_watch_options {
    // Not in fractions of a millisecond: the thread that looks needs its turns.
    saturating_duration threshold = std::chrono::milliseconds{100};
    // Take the highest real-time signal that is free, for the backtrace of a thread that computes.
    // Without it only a thread that waits in the kernel has a backtrace.
    bool interrupts = true;
    // Names the peer of a socket for a report: "127.0.0.1:80". Null: it has no name. May throw.
    std::string (*name_of_socket)(int descriptor) = nullptr;
};

// While it exists, the run of the calling thread is watched, with these options instead of those of
// one that was made before, as by io::run. Reports go to stderr: at most one a second of a run, and
// ten a minute of the process. A stall that lasts longer than that is reported late; the next
// report tells how many others were left out.
class stall_watch {
public:
    // Threads: those with a scheduler whose poller keeps the time of creel::clock. Throws:
    // std::system_error if there is no descriptor or thread left; std::bad_alloc. Cost: some 20 us;
    // then four looks of some microseconds within each threshold, on a thread of creel's own.
    explicit stall_watch(const stall_watch_options& options);
    // The last that was made on the run ends first. Parks: may block the thread, while a report is
    // being written. Threads: the same.
    ~stall_watch();
    stall_watch(const stall_watch&) = delete;
    stall_watch& operator=(const stall_watch&) = delete;

private:
    const stall_watch_options options_;
    dump_thread thread_;
    detail::scheduler& run_;
    const stall_watch_options* const before_; // of the one that watched the run before; null: none
};

} // namespace creel
