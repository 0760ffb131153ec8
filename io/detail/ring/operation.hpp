// One operation of the kernel's, on the stack of the fiber that parks for it.
//
// It begins when ring::perform() fills in its entry and ends with its last completion, whatever a
// cancel does meanwhile. So every buffer it names may lie on the same stack.
#pragma once

#include <creel/fibers/waiter.hpp>
#include <creel/io/detail/ring/request.hpp>

#include <climits>

namespace creel::io::detail {

class ring;

struct operation : waiter {
    operation(const waiter_kind& kind, ring& r, int descriptor) noexcept
        : waiter(kind), on(&r), fd(descriptor) {}

    // Did a cancel of its fiber end it, and not a close? Any result but this one stands, also after
    // a cancel.
    [[nodiscard]] bool was_cancelled() const noexcept;
    // The descriptor it has brought, once.
    [[nodiscard]] int take_descriptor() noexcept;

    static constexpr int under_way = INT_MIN; // no result of the kernel's: those are -errno or more

    ring* on;
    int fd;                 // for describe()
    int result = under_way; // its first completion's, as flags; a notification may come behind it
    unsigned flags = 0;
    bool brings_descriptor = false; // its result is one, which a fiber must take or close
    cancel_request cancel{};
};

// The withdraw of every operation: asks the kernel to cancel it, and says `pending`, for its last
// completion is still to come.
withdrawal withdraw_operation(waiter& w, wake_reason why) noexcept;

} // namespace creel::io::detail
