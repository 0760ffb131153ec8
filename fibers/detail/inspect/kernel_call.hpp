// What a thread does as the kernel sees it, mostly from /proc/self/task/TID: whether it computes or
// waits, in which system call, and for how long it has had a processor.
#pragma once

#include <creel/fibers/time.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace creel::detail {

// A system call that a thread is in.
struct kernel_call {
    long number = -1; // -1: it waits in the kernel in no call, as for a page
    std::array<std::uintptr_t, 6> arguments{};
    std::uintptr_t stack_pointer = 0;
    std::uintptr_t address = 0; // behind the instruction that made the call

    friend bool operator==(const kernel_call&, const kernel_call&) = default;
};

// Empty if the thread is not blocked in the kernel, or if the kernel does not tell. Threads: any.
[[nodiscard]] std::optional<kernel_call> kernel_call_of(int thread_id) noexcept;

// True if a handler with SA_RESTART leaves no trace in the result of the call. Most calls are not
// of that kind: sleeps and polls return EINTR, as do those on a socket with a timeout, and a large
// write returns with what it has done (signal(7)).
[[nodiscard]] bool goes_on_after_signals(const kernel_call& call) noexcept;

// How long a thread has had a processor until a moment of creel::clock. Negative: it is not known.
struct processor_time {
    duration had{-1};
    time_point at{};
};
[[nodiscard]] processor_time processor_time_of(int thread_id) noexcept;

// The state letter of proc_pid_stat(5): 'R', 'S', 'D', 't', ...; 0 if there is no such thread.
[[nodiscard]] char state_of_thread(int thread_id) noexcept;

// True while a debugger holds the thread. strace(1) is one, too.
[[nodiscard]] bool is_traced(int thread_id) noexcept;

// The beginning of a file of /proc, as much as there is room for. Empty if there is none.
[[nodiscard]] std::string_view read_thread_file(int thread_id, const char* name,
                                                std::span<char> room) noexcept;

} // namespace creel::detail
