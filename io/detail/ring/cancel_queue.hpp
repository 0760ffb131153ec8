// The cancels that a ring has still to hand to the kernel: the newest operation's first.
//
// The kernel finds what it is to cancel in a table of 2 to 256 lists, by the size of the completion
// queue, each with its newest operation first (io_poll_find() in io_uring/poll.c). Asked for the
// oldest first, as a nursery's children are cancelled, it walks past all others each time: n
// cancels take n * n steps. Newest first, each is at or near the front, in a ring of any size.
#pragma once

#include <creel/io/detail/ring/request.hpp>

namespace creel::io::detail {

class cancel_queue {
public:
    [[nodiscard]] bool empty() const noexcept { return waiting_.empty(); }

    // The request may be unlinked as long as it waits here.
    void push(cancel_request& r) noexcept {
        waiting_.push(r);
        sorted_ = false;
    }

    // The number of the newest operation. Not empty.
    [[nodiscard]] std::uint64_t newest() noexcept {
        if (!sorted_)
            sort();
        return waiting_.front().number;
    }
    // The one whose operation is the newest; of those alike, the last one pushed.
    [[nodiscard]] cancel_request& pop() noexcept {
        if (!sorted_)
            sort();
        return waiting_.pop();
    }

private:
    void sort() noexcept;

    circle<cancel_request> waiting_{};
    bool sorted_ = true; // newest first
};

} // namespace creel::io::detail
