// The cancels that a ring has not yet handed to the kernel, in the order in which they go: first
// the cancel of the newest operation.
//
// The kernel looks for the operation in a table of 2 to 256 lists (by the size of the completion
// queue), each with its newest operation first (io_poll_find() in io_uring/poll.c). A nursery
// cancels its oldest child first. In that order the kernel walks past all other operations each
// time: n cancels take n * n steps. In the order of this queue each operation is at or near the
// front, in a ring of any size.
#pragma once

#include <creel/io/detail/ring/request.hpp>

namespace creel::io::detail {

class cancel_queue {
public:
    [[nodiscard]] bool empty() const noexcept { return waiting_.empty(); }

    // While it waits here, the request may be unlinked.
    void push(cancel_entry& r) noexcept {
        waiting_.push(r);
        sorted_ = false;
    }

    // The request with the highest number; of equal numbers, the one that was pushed last.
    [[nodiscard]] cancel_entry& pop() noexcept {
        if (!sorted_)
            sort();
        return waiting_.pop();
    }

private:
    void sort() noexcept;

    circle<cancel_entry> waiting_{};
    bool sorted_ = true; // newest first
};

} // namespace creel::io::detail
