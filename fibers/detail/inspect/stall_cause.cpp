#include <creel/fibers/detail/inspect/stall_cause.hpp>

#include <creel/fibers/detail/report/text.hpp>
#include <creel/fibers/detail/system/own_memory.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <string_view>

#include <linux/futex.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace creel::detail {

namespace {

// What a system call waits for, as far as the remedy differs.
enum class call_kind : std::uint8_t {
    transfer, // of bytes, by the descriptor in its first argument
    accept,   // or connect
    readiness,
    file, // a disk
    sleep,
    child, // of fork(); or, of vfork() and posix_spawn(), until it executes its program
    other
};

struct blocking_call {
    long number;
    const char* name;
    call_kind kind;
    bool has_descriptor = false; // its first argument
};

using enum call_kind;

// Those that block often. Elsewhere than on x86-64 some do not exist.
constexpr std::array blocking_calls {
#if defined(SYS_poll)
    blocking_call{SYS_poll, "poll", readiness}, blocking_call{SYS_select, "select", readiness},
        blocking_call{SYS_epoll_wait, "epoll_wait", readiness, true},
        blocking_call{SYS_open, "open", file}, blocking_call{SYS_unlink, "unlink", file},
        blocking_call{SYS_rename, "rename", file}, blocking_call{SYS_pause, "pause", other},
        blocking_call{SYS_vfork, "vfork", child}, blocking_call{SYS_clone, "clone", child},
#endif
        blocking_call{SYS_ppoll, "ppoll", readiness},
        blocking_call{SYS_pselect6, "pselect", readiness},
        blocking_call{SYS_epoll_pwait, "epoll_wait", readiness, true},
        blocking_call{SYS_read, "read", transfer, true},
        blocking_call{SYS_readv, "readv", transfer, true},
        blocking_call{SYS_pread64, "pread", transfer, true},
        blocking_call{SYS_write, "write", transfer, true},
        blocking_call{SYS_writev, "writev", transfer, true},
        blocking_call{SYS_pwrite64, "pwrite", transfer, true},
        blocking_call{SYS_recvfrom, "recv", transfer, true},
        blocking_call{SYS_recvmsg, "recvmsg", transfer, true},
        blocking_call{SYS_sendto, "send", transfer, true},
        blocking_call{SYS_sendmsg, "sendmsg", transfer, true},
        blocking_call{SYS_sendfile, "sendfile", transfer, true},
        blocking_call{SYS_splice, "splice", transfer, true},
        blocking_call{SYS_accept, "accept", accept, true},
        blocking_call{SYS_accept4, "accept4", accept, true},
        blocking_call{SYS_connect, "connect", accept, true},
        blocking_call{SYS_nanosleep, "nanosleep", sleep},
        blocking_call{SYS_clock_nanosleep, "clock_nanosleep", sleep},
        blocking_call{SYS_restart_syscall, "a call with a timeout", other},
        blocking_call{SYS_wait4, "wait4", child}, blocking_call{SYS_waitid, "waitid", child},
#if defined(SYS_clone3)
        blocking_call{SYS_clone3, "clone3 (of posix_spawn, popen or system)", child},
#endif
        blocking_call{SYS_openat, "open", file}, blocking_call{SYS_close, "close", file, true},
        blocking_call{SYS_fsync, "fsync", file, true},
        blocking_call{SYS_fdatasync, "fdatasync", file, true},
        blocking_call{SYS_sync, "sync", file}, blocking_call{SYS_syncfs, "syncfs", file, true},
        blocking_call{SYS_fallocate, "fallocate", file, true},
        blocking_call{SYS_ftruncate, "ftruncate", file, true},
        blocking_call{SYS_getdents64, "getdents", file, true},
        blocking_call{SYS_unlinkat, "unlinkat", file}, blocking_call{SYS_renameat2, "rename", file},
        blocking_call{SYS_flock, "flock", other, true},
        blocking_call{SYS_fcntl, "fcntl", other, true},
        blocking_call{SYS_ioctl, "ioctl", other, true}, blocking_call{SYS_msgrcv, "msgrcv", other},
        blocking_call{SYS_msgsnd, "msgsnd", other}, blocking_call{SYS_semop, "semop", other},
        blocking_call{SYS_semtimedop, "semtimedop", other},
        blocking_call{SYS_rt_sigtimedwait, "sigwait", other},
        blocking_call{SYS_rt_sigsuspend, "sigsuspend", other},
        blocking_call{SYS_io_getevents, "io_getevents", other},
        blocking_call{SYS_io_uring_enter, "io_uring_enter", other, true},
};

constexpr const char* in_blocking =
    "creel::blocking(f) runs it on a thread of its own, and this fiber waits for it";

// A thread that is ready but has no processor looks to the kernel as one that computes, except that
// its time does not pass. A scheduler of the kernel gives a thread its processor for some ms at a
// time, so a short look tells nothing.
stall_cause cause_of_computing(const processor_time& now, const processor_time& since) {
    constexpr duration shortest_look = std::chrono::milliseconds{10};
    constexpr int least_share = 4; // of the time: a quarter
    const duration had = now.had - since.had;
    const duration passed = now.at - since.at;
    const bool is_known = now.had >= duration{} && since.had >= duration{};
    if (is_known && passed >= shortest_look && had < passed / least_share)
        return {"is ready to run, but the machine gave its thread a processor for only " +
                    to_text(had) + " of " + to_text(passed),
                "the machine has more threads that compute than processors: no fiber is at fault"};
    return {is_known && passed >= shortest_look ? "computes" : "computes, or waits for a processor",
            "creel::this_fiber::checkpoint() in its loop lets other fibers run; creel::blocking(f) "
            "computes on another thread"};
}

std::string text_of_descriptor(int descriptor, const stall_watch_options& options) {
    std::string text = "descriptor " + std::to_string(descriptor);
    std::array<char, 256> target{};
    const ssize_t bytes = ::readlink(("/proc/self/fd/" + std::to_string(descriptor)).c_str(),
                                     target.data(), target.size());
    if (bytes <= 0)
        return text;
    const std::string_view name{target.data(), static_cast<std::size_t>(bytes)};
    if (name.starts_with("socket:") && options.name_of_socket != nullptr) {
        try {
            return text + " (a socket, " + escaped(options.name_of_socket(descriptor)) + ')';
        } catch (const std::exception&) {
            return text + " (a socket)";
        }
    }
    for (const char* const kind : {"socket", "pipe"})
        if (name.starts_with(std::string{kind} + ':'))
            return text + " (a " + kind + ')';
    return text + " (" + escaped(name) + ')';
}

// The fields that glibc's mutexes of every kind begin with (struct __pthread_mutex_s).
struct mutex_words {
    std::int32_t lock;
    std::uint32_t count;
    std::int32_t owner; // a thread's number
    std::uint32_t users;
};

bool is_thread_of_process(int thread_id) noexcept {
    return thread_id > 0 && state_of_thread(thread_id) != 0;
}

// pthread_mutex_lock() sleeps while the word is 2, and such a mutex has the number of its owner.
stall_cause cause_of_futex(int thread_id, const kernel_call& call) {
    const auto operation = static_cast<int>(call.arguments[1]) & FUTEX_CMD_MASK;
    mutex_words m{};
    if ((operation == FUTEX_WAIT && call.arguments[2] == 2) || operation == FUTEX_LOCK_PI) {
        if (copy_memory(reinterpret_cast<const void*>(call.arguments[0]), // NOLINT
                        std::as_writable_bytes(std::span{&m, 1})) &&
            m.users != 0 && is_thread_of_process(m.owner)) {
            if (m.owner == thread_id)
                return {"waits for a std::mutex (or pthread_mutex_t) that this thread holds: "
                        "another of its fibers, which cannot run now, or this one",
                        "hold no std::mutex over a call that may wait; creel::sync::mutex is made "
                        "for that"};
            return {"waits for a std::mutex (or pthread_mutex_t) that thread " +
                        std::to_string(m.owner) + " \"" + escaped(name_of_thread(m.owner)) +
                        "\" holds",
                    "creel::sync::mutex lets other fibers run meanwhile, and threads may lock it, "
                    "too"};
        }
    }
    return {
        "waits for another thread (futex: a condition variable, std::future, join or the like)",
        "creel::sync has what fibers and threads may wait for (event, future, condition_variable, "
        "semaphore); creel::blocking(f) waits on a thread of its own"};
}

const char* remedy_of(call_kind kind, bool is_socket) noexcept {
    switch (kind) {
    case sleep:
        return "creel::this_fiber::sleep_for() lets other fibers run meanwhile";
    case transfer:
    case accept:
        return is_socket ? "creel::io has streams and listeners that let other fibers run; "
                           "io::wait_readable(fd) or wait_writable(fd) before the call does so, too"
                         : "io::wait_readable(fd) or wait_writable(fd) before the call lets other "
                           "fibers run; creel::blocking(f) runs it on a thread of its own";
    case readiness:
        return "io::wait_readable(fd) or wait_writable(fd) lets other fibers run meanwhile";
    case file:
    case child:
    case other:
        break;
    }
    return in_blocking;
}

// poll() of one descriptor, as libraries call it before each receive.
int only_polled(const kernel_call& call) noexcept {
    pollfd polled{-1, 0, 0};
    if (call.arguments[1] != 1 ||
        !copy_memory(reinterpret_cast<const void*>(call.arguments[0]), // NOLINT
                     std::as_writable_bytes(std::span{&polled, 1})))
        return -1;
    return polled.fd;
}

stall_cause cause_of_call(const kernel_call& call, bool on_device,
                          const stall_watch_options& options) {
    const auto* const known =
        std::find_if(blocking_calls.begin(), blocking_calls.end(),
                     [&](const blocking_call& c) { return c.number == call.number; });
    const bool is_known = known != blocking_calls.end();
    const call_kind kind = is_known ? known->kind : other;
    const std::string name = is_known ? known->name : "system call " + std::to_string(call.number);
    const bool is_poll = is_known && std::string_view{name}.ends_with("poll");
    const int descriptor = is_known && known->has_descriptor ? static_cast<int>(call.arguments[0])
                           : is_poll                         ? only_polled(call)
                                                             : -1;
    const std::string on =
        descriptor >= 0 ? " on " + text_of_descriptor(descriptor, options) : std::string{};
    if (kind == child) // of vfork(): it waits as for a device
        return {"waits for a child process in " + name, in_blocking};
    if (on_device)
        return {"waits for a disk or another device in " + name + on, in_blocking};
    return {(kind == sleep ? "sleeps in " : "blocks the thread in ") + name + on,
            remedy_of(kind, on.find("(a socket") != on.npos)};
}

} // namespace

thread_sample sample_of(int thread_id) noexcept {
    return {state_of_thread(thread_id), kernel_call_of(thread_id), processor_time_of(thread_id)};
}

stall_cause cause_of_stall(int thread_id, const thread_sample& now, const processor_time& since,
                           const stall_watch_options& options) {
    const bool on_device = now.state == 'D';
    if (now.call && now.call->number >= 0) {
        if (now.call->number == SYS_futex)
            return cause_of_futex(thread_id, *now.call);
        return cause_of_call(*now.call, on_device, options);
    }
    if (on_device)
        return {"waits for a disk or another device, as for a page of memory that was swapped out",
                {}};
    if (now.state == 'R')
        return cause_of_computing(now.time, since);
    return {"waits in the kernel", in_blocking};
}

std::string name_of_thread(int thread_id) {
    std::array<char, 64> room{};
    std::string_view name = read_thread_file(thread_id, "comm", room);
    if (name.ends_with('\n'))
        name.remove_suffix(1);
    return std::string{name};
}

} // namespace creel::detail
