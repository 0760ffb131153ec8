// Why a thread does not switch fibers, and what to do about it.
#pragma once

#include <creel/fibers/detail/inspect/kernel_call.hpp>
#include <creel/fibers/stall_watch.hpp>

#include <optional>
#include <string>

namespace creel::detail {

struct stall_cause {
    std::string does{};   // "sleeps in clock_nanosleep"
    std::string remedy{}; // a sentence; may be empty
};

// What the kernel tells of a thread at one moment.
struct thread_sample {
    char state = 0;
    std::optional<kernel_call> call{};
    processor_time time{};
};
[[nodiscard]] thread_sample sample_of(int thread_id) noexcept;

// `since`: the thread's time when the stall had begun; `now`: a sample in the middle of it. Reads
// what the call's arguments point to, and asks for names of descriptors and threads.
// Threads: any. Throws: std::bad_alloc.
[[nodiscard]] stall_cause cause_of_stall(int thread_id, const thread_sample& now,
                                         const processor_time& since,
                                         const stall_watch_options& options);

// Of the process, from /proc; empty if unknown. Throws: std::bad_alloc.
[[nodiscard]] std::string name_of_thread(int thread_id);

} // namespace creel::detail
