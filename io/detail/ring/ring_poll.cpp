// The rounds of a ring: requests and cancels go to the kernel, completions come back.
//
// The way of a cancel:
//
//     queued (cancels_) ── 1 ──► with the kernel (answering_) ── 2 ──► answered
//          ▲                             │
//          └───── 4 ── again_ ◄───── 3 ──┘
//
//   1 serve_cancels()  gives it an entry
//   2 answered()       found (0), or running and told to stop (EALREADY)
//   3 answered()       not found (ENOENT), while its operation has no result yet
//   4 the next poll or wait
//
// Wherever it is, it is unlinked when its operation has a result.
//
// 3 happens because an operation whose descriptor was ready when the kernel armed its poll is in no
// table until its task work has run (IO_APOLL_READY in io_uring/poll.c), behind the cancel. If
// another operation has taken the data by then, the operation waits, and can be found. To cancel
// only when no task work is left is no way out: a busy ring always has some, and a deadline of 50
// ms took nine seconds.
#include <creel/io/detail/ring/ring.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>

namespace creel::io::detail {

void prepare_cancel(sqe_request& r, io_uring_sqe& entry) noexcept {
    auto& cancel = static_cast<cancel_entry&>(r);
    io_uring_prep_cancel64(&entry, cancel.target, 0);
    entry.user_data = ring::tagged(cancel);
}

void ring::serve_requests() noexcept {
    while (!requests_.empty() && has_room()) {
        sqe_request& r = requests_.pop();
        r.prepare(r, next_entry());
    }
}

// Gives entries to as many cancels as there is room for, and returns how many; it hands none over.
// Other requests that wait for room go first.
unsigned ring::serve_cancels() noexcept {
    unsigned taken = 0;
    if (requests_.empty())
        for (; !cancels_.empty() && unsubmitted() < entries_; ++taken) {
            cancel_entry& r = cancels_.pop();
            r.prepare(r, next_entry());
            answering_.push(r);
        }
    return taken;
}

// The kernel answers in the order in which it got them. Those whose operation has completed are in
// no list any more.
void ring::answered(std::uint64_t number, int result) noexcept {
    if (answering_.empty() || answering_.front().number != number)
        return;
    cancel_entry& r = answering_.pop();
    if (result == -ENOENT)
        again_.push(r);
}

void ring::ask_again() noexcept {
    while (!again_.empty())
        cancels_.push(again_.pop());
}

void ring::cancel(operation& op) noexcept {
    // A completed operation is woken, and its fiber is about to leave the stack that it lies on. A
    // request queued now would still be queued when that memory is something else.
    if (op.cancel.prepare != nullptr || op.result != operation::under_way)
        return;
    op.cancel.target = tagged(op);
    op.cancel.prepare = &prepare_cancel;
    ++counters_.cancels_submitted;
    request(op.cancel);
}

unsigned ring::reap() noexcept {
    const io_uring_cq& cq = uring_.cq;
    const unsigned first = *cq.khead;
    const unsigned end = io_uring_smp_load_acquire(cq.ktail);
    reaping_ = true;
    for (unsigned at = first; at != end; ++at) {
        const io_uring_cqe& done = cq.cqes[at & cq.ring_mask];
        const std::uint64_t data = done.user_data;
        if ((done.flags & IORING_CQE_F_MORE) == 0)
            --held_;
        if ((data & tag_mask) == 0) [[likely]] {
            auto& op = *reinterpret_cast<operation*>(static_cast<std::uintptr_t>(data));
            if (op.result == operation::under_way) [[likely]] {
                op.result = done.res;
                op.flags = done.flags;
                if (op.cancel.linked()) [[unlikely]]
                    op.cancel.unlink();
                if (op.brings_descriptor && done.res >= 0) [[unlikely]]
                    ++late_descriptors_;
            } // else this is a notification, which comes behind the result (IORING_CQE_F_NOTIF)
            if ((done.flags & IORING_CQE_F_MORE) != 0)
                continue;
            ++counters_.operations_completed;
            creel::wake(op);
        } else if ((data & tag_mask) == target_tag) {
            auto& target = *reinterpret_cast<completion_target*>(
                static_cast<std::uintptr_t>(data & ~tag_mask));
            target.complete(target, done.res, done.flags);
        } else if ((data & tag_mask) == cancel_tag) {
            answered(data >> tag_bits, done.res);
        } else if (data == wake_signal::message) {
            ++held_; // it is the completion of no entry
            wake_signal_.message_reaped();
            serve_other_threads();
        }
    }
    if (first != end)
        io_uring_smp_store_release(cq.khead, end);
    reaping_ = false;
    counters_.completions += end - first;
    return end - first;
}

void ring::poll() noexcept {
    ask_again();
    // A cancelled operation leaves the kernel's table when its completion is made. It must be gone
    // before the kernel looks for the next ones. If fibers have filled the queue, the first round
    // makes room for cancels. It ends: a round with room takes a cancel from their queue.
    do {
        serve_requests();
        const unsigned cancels = serve_cancels();
        const unsigned kernel_wants =
            IO_URING_READ_ONCE(*uring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
        if (unsubmitted() != 0 || kernel_wants != 0) {
            if ((kernel_wants & IORING_SQ_CQ_OVERFLOW) != 0) {
                // The kernel moves the overflown completions into the room that this makes.
                ++counters_.overflows;
                reap();
            }
            enter_for(cancels);
        }
        reap();
    } while (!cancels_.empty() && requests_.empty() && unsubmitted() < entries_);
    if (!room_waiters_.empty()) [[unlikely]]
        serve_room_waiters();
    attend();
}

void ring::wait_until(time_point deadline) noexcept {
    attend(); // also before the wait: what ran since the last poll may have begun a shutdown
    // Requests and cancels are served although something has completed: on a small ring something
    // always has, and the scheduler does not poll between two waits.
    serve_requests();
    if (!cancels_.empty() || !again_.empty()) {
        poll();
        return;
    }
    if (reap() != 0)
        return;
    if (supervisor_ != nullptr)
        deadline = std::min(deadline, supervisor_->deadline);
    // It must not sleep if the wake read is not with the kernel, if fibers wait for room, or if
    // completions have overflown, which poll() takes in and counts.
    const unsigned overflown = IO_URING_READ_ONCE(*uring_.sq.kflags) & IORING_SQ_CQ_OVERFLOW;
    if (!requests_.empty() || !room_waiters_.empty() || overflown != 0) {
        poll();
        return;
    }
    if (deadline == time_point::max()) {
        enter(1, IORING_ENTER_GETEVENTS, nullptr, 0);
    } else {
        const time_point t = now();
        if (deadline <= t) { // first: with time_point::min() the difference would overflow
            poll();
            return;
        }
        const duration left = deadline - t;
        const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(left);
        __kernel_timespec timeout{};
        timeout.tv_sec = seconds.count();
        timeout.tv_nsec = std::chrono::nanoseconds{left - seconds}.count();
        io_uring_getevents_arg argument{};
        argument.ts = reinterpret_cast<std::uintptr_t>(&timeout);
        enter(1, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument, sizeof argument);
    }
    reap();
    attend();
}

void ring::attend() noexcept {
    if (supervisor_ != nullptr && supervisor_->watching) [[unlikely]]
        supervisor_->attend(*supervisor_);
}

void ring::wait_briefly() noexcept {
    CREEL_ASSERT(!reaping_, "the ring waits while it delivers completions");
    const bool left_over = unsubmitted() != 0; // perhaps because the kernel refused
    serve_requests();
    ask_again();
    const unsigned cancels = serve_cancels();
    if (reap() != 0)
        return;
    // Each cancel has a completion of its own. One that has no entry, or whose entry the kernel
    // refuses, brings none, and nothing might come for long: the caller calls again.
    const bool waits = !left_over && cancels_.empty();
    enter(waits ? std::max(cancels, 1U) : 0U, IORING_ENTER_GETEVENTS, nullptr, 0);
}

// CLOCK_MONOTONIC_COARSE is the steady clock as of the last timer tick: 5 ns to read instead of 24.
// Its resolution is a tick: 10 ms on a kernel of 100 Hz, which is too coarse.
time_point ring::coarse_now() noexcept {
    static const bool fine_enough = [] {
        timespec tick{};
        return clock_getres(CLOCK_MONOTONIC_COARSE, &tick) == 0 && tick.tv_sec == 0 &&
               tick.tv_nsec <= 5'000'000;
    }();
    timespec t{};
    if (!fine_enough || clock_gettime(CLOCK_MONOTONIC_COARSE, &t) != 0) [[unlikely]]
        return clock::now();
    return time_point{std::chrono::seconds{t.tv_sec} + std::chrono::nanoseconds{t.tv_nsec}};
}

} // namespace creel::io::detail
