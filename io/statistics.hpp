// The counters of a ring: its work since it was made, and the things that it holds now.
#pragma once

#include <creel/fibers/build_check.hpp>

#include <cstdint>

namespace creel::io {

struct ring_statistics {
    // These three are zero when a run ends: no fiber resumed, and no buffer was freed, before the
    // kernel was done. The end of a run asserts it, for the first in debug mode only.
    // Operations with a completion still to come. After a run: those of its fibers, at the time
    // when the last fiber ended.
    std::uint64_t operations_in_flight = 0;
    std::uint64_t late_descriptors = 0; // that an operation has brought, and no fiber has taken
    std::uint64_t buffers_out = 0;      // provided buffers that have not come back

    std::uint64_t receives_standing = 0; // for streams of short messages: see tcp_stream
    std::uint64_t registered_files = 0;  // descriptors in the ring's file table

    // Sizes of the queues: smaller than asked for if the user may lock no more memory.
    std::uint64_t submission_entries = 0;
    std::uint64_t completion_entries = 0;

    std::uint64_t operations_submitted = 0; // for fibers
    std::uint64_t operations_completed = 0; // of those submitted
    std::uint64_t cancels_submitted = 0;
    std::uint64_t completions = 0;
    std::uint64_t enters = 0;     // system calls
    std::uint64_t room_waits = 0; // fibers that had to wait for room in the submission queue
    std::uint64_t overflows = 0;  // rounds that found the completion queue overflown
};

// The counters of the calling thread's ring. Outside a run: the counters with which the thread's
// last ring ended. Threads: any.
[[nodiscard]] ring_statistics statistics() noexcept;

} // namespace creel::io
