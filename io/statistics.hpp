// What a ring has done, and what it holds now.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <cstdint>

namespace creel::io {

struct ring_statistics {
    // Zero when a run ends: no fiber resumed, and no buffer was freed, before the kernel was done.
    // Debug mode asserts it.
    // Whose last completion is still to come. Of an ended run: of fibers, when the last had ended.
    std::uint64_t operations_in_flight = 0;
    std::uint64_t late_descriptors = 0; // brought by an operation, taken by no fiber yet
    std::uint64_t buffers_out = 0;      // provided buffers that have not come back

    std::uint64_t receives_standing = 0; // streams of short messages: see tcp_stream
    std::uint64_t registered_files = 0;  // descriptors in the ring's file table

    // Of the queues: fewer than asked for where the user may lock no more memory.
    std::uint64_t submission_entries = 0;
    std::uint64_t completion_entries = 0;

    std::uint64_t operations_submitted = 0; // for fibers
    std::uint64_t operations_completed = 0; // of these
    std::uint64_t cancels_submitted = 0;
    std::uint64_t completions = 0;
    std::uint64_t enters = 0;     // system calls
    std::uint64_t room_waits = 0; // fibers that had to wait for room in the submission queue
    std::uint64_t overflows = 0;  // rounds in which the completion queue had overflown
};

// Of the calling thread's ring; outside of a run, what the thread's last ring ended with.
// Threads: any.
[[nodiscard]] ring_statistics statistics() noexcept;

} // namespace creel::io
