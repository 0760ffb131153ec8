// One operation of the kernel, on the stack of the fiber that parks for it.
//
//     made ── 1 ──► queued ── 2 ──► with the kernel ── 3 ──► has its result ── 4 ──► over
//
//   1 ring::perform()  has its entry filled in, and parks the fiber
//   2 ring::enter()    hands the entry over, with the next poll or wait
//   3 ring::reap()     stores the first completion in `result` and `flags`
//   4 ring::reap()     wakes the fiber at the last completion. Most operations have one completion,
//                      which is the first and the last; a notification may come behind the result.
//   5 ring::cancel()   queues a cancel, once, before 3. It changes no state: the kernel still owns
//                      the buffer, and the last completion comes all the same.
//
// Until 4 the kernel may use the buffers that it names, and until 4 the fiber stays parked. So the
// buffers may lie on the same stack.
#pragma once

#include <creel/fibers/waiter.hpp>
#include <creel/io/detail/ring/request.hpp>

#include <climits>

namespace creel::io::detail {

class ring;

struct operation : waiter {
    operation(const waiter_kind& kind, ring& r, int descriptor) noexcept
        : waiter(kind), on(&r), fd(descriptor) {}

    // True if a cancel of its fiber ended it, and not a close. Every other result stands, even
    // after a cancel.
    [[nodiscard]] bool was_cancelled() const noexcept;
    // The descriptor that the operation has brought. Call it once.
    [[nodiscard]] int take_descriptor() noexcept;

    static constexpr int under_way = INT_MIN; // the kernel's results are -errno or more

    ring* on;               // submitted here
    int fd;                 // for describe()
    int result = under_way; // of its first completion; so is `flags`
    unsigned flags = 0;
    bool brings_descriptor = false; // the result is a descriptor: a fiber must take or close it
    cancel_entry cancel{};
};

// The withdraw of every operation: asks the kernel to cancel it, and says `pending`, because its
// last completion is still to come.
withdrawal withdraw_operation(waiter& w, wake_reason why) noexcept;

} // namespace creel::io::detail
