// An entry that a ring submits although no fiber waits for it, and the target of its completions.
#pragma once

#include <creel/io/detail/ring/link.hpp>

#include <cstdint>

struct io_uring_sqe;

namespace creel::io::detail {

// Needs one submission entry. It is linked while it waits for the entry in the ring's queue. (A
// cancel is linked until its answer has come.)
struct sqe_request : link {
    void (*prepare)(sqe_request&, io_uring_sqe&) noexcept = nullptr; // fills in the entry
};

// Asks the kernel to cancel an operation or a standing receive.
struct cancel_entry : sqe_request {
    std::uint64_t target = 0; // the user_data of the entry that is to be cancelled
    std::uint64_t number = 0; // of that entry: entries filled in earlier have lower numbers
};
void prepare_cancel(sqe_request& r, io_uring_sqe& entry) noexcept;

// Gets the completions that no fiber waits for: of the ring's own operations and of standing
// receives.
struct completion_target {
    void (*complete)(completion_target&, int result, unsigned flags) noexcept = nullptr;
};

} // namespace creel::io::detail
