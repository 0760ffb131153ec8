#include <creel/io/detail/ring/ring.hpp>

#include <creel/fibers/detail/system/valgrind.hpp>
#include <creel/io/detail/ring/hangup_probe.hpp>
#include <creel/io/detail/ring/ring_setup.hpp>

#include <ctime>
#include <optional>
#include <utility>

#include <poll.h>

namespace creel::io::detail {
namespace {

// No wait is longer, so that a surprise of clocks or signals cannot hang the loop for good. A
// timeout that is always in the ring costs nothing; a timeout for each wait would read the clock
// each time.
__kernel_timespec longest_wait{.tv_sec = 10, .tv_nsec = 0};

// Valgrind runs one thread at a time, and does not know (3.19) that io_uring_enter may sleep: all
// other threads would stand still. So the thread sleeps in ppoll. It does not sleep long, since a
// completion that waits for the thread to enter the kernel (DEFER_TASKRUN) does not end that sleep.
int enter_in_valgrind(unsigned ring, unsigned to_submit, unsigned wait_for, unsigned flags,
                      sigset_t* argument, std::size_t bytes) {
    if (wait_for == 0)
        return io_uring_enter2(ring, to_submit, 0, flags, argument, bytes);
    const int submitted = io_uring_enter2(ring, to_submit, 0, IORING_ENTER_GETEVENTS, nullptr, 0);
    if (submitted < 0)
        return submitted;
    constexpr timespec longest_sleep{.tv_sec = 0, .tv_nsec = 1'000'000};
    pollfd descriptor{.fd = static_cast<int>(ring), .events = POLLIN, .revents = 0};
    ppoll(&descriptor, 1, &longest_sleep, nullptr);
    const int entered = io_uring_enter2(ring, 0, 0, IORING_ENTER_GETEVENTS, nullptr, 0);
    return entered < 0 ? entered : submitted;
}

} // namespace

ring::ring(std::unique_ptr<kernel_ring> kernel)
    : kernel_(std::move(kernel)),
      uring_(kernel_->uring()),
      entries_(uring_.sq.ring_entries),
      tail_(io_uring_smp_load_acquire(uring_.sq.khead)),
      enter_(&io_uring_enter2),
      wake_signal_(*kernel_),
      inbox_(std::make_shared<ring_inbox>(*this)) {
    static_cast<void>(kernel_sees_hangups()); // now, and not when fibers wait for this thread
    if (creel::detail::under_valgrind()) {
        enter_ = &enter_in_valgrind;
        uring_.enter_ring_fd = uring_.ring_fd;
    }
    enter_flags_ = uring_.enter_ring_fd != uring_.ring_fd ? IORING_ENTER_REGISTERED_RING : 0U;
    wake_read_.fill = [](ring& self, io_uring_sqe& entry) noexcept {
        io_uring_prep_read(&entry, self.wake_descriptor(), &self.wake_count_,
                           sizeof self.wake_count_, 0);
    };
    wake_read_.then = [](ring& self) noexcept { self.serve_other_threads(); };
    keep_up(wake_read_);
    heartbeat_.fill = [](ring&, io_uring_sqe& entry) noexcept {
        io_uring_prep_timeout(&entry, &longest_wait, 0, 0);
    };
    keep_up(heartbeat_);
}

ring::~ring() {
    CREEL_ASSERT(held_ == 0, "a ring is destroyed while the kernel works for it");
}

std::unique_ptr<kernel_ring> ring::give_up_kernel() noexcept {
    CREEL_ASSERT(held_ == 0 && ending_, "a ring is kept while the kernel works for it");
    return refused_ ? nullptr : std::move(kernel_);
}

void ring::keep_up(own_operation& o) noexcept {
    o.on = this;
    o.prepare = [](sqe_request& r, io_uring_sqe& entry) noexcept {
        auto& self = static_cast<own_operation&>(r);
        ++self.on->own_held_;
        self.fill(*self.on, entry);
        entry.user_data = tagged(static_cast<completion_target&>(self));
    };
    o.complete = [](completion_target& t, int, unsigned) noexcept {
        auto& self = static_cast<own_operation&>(t);
        --self.on->own_held_;
        if (self.then != nullptr)
            self.then(*self.on);
        if (!self.on->ending_)
            self.on->request(self);
    };
    request(o);
}

void ring::serve_other_threads() noexcept {
    inbox_->deliver();
    if (supervisor_ != nullptr)
        supervisor_->attend(*supervisor_);
}

bool ring::receives_may_stand() noexcept {
    receive_buffers& buffers = kernel_->make_buffers();
    if (!buffers.usable() || is_withheld(newer_feature::standing_receive))
        return false;
    const std::optional<bool> told_of_all = kernel_sees_hangups();
    if (told_of_all == false)
        buffers.refuse();
    return told_of_all == true;
}

void ring::end() noexcept {
    ending_ = true;
    supervisor_ = nullptr;
    while (!members_.empty()) {
        ring_member& m = members_.pop();
        m.ring_ends(m);
    }
    retract(wake_read_);
    retract(heartbeat_);
    sqe_request everything;
    everything.prepare = [](sqe_request&, io_uring_sqe& entry) noexcept {
        io_uring_prep_cancel64(&entry, 0, IORING_ASYNC_CANCEL_ANY);
        entry.cancel_flags |= IORING_ASYNC_CANCEL_ALL;
        entry.user_data = ignored;
    };
    request(everything);
    do
        wait_briefly();
    while (held_ != 0 || !requests_.empty() || !cancels_.empty() || !again_.empty());
    // Not before: until here a node may be about a record that this ring still works on.
    inbox_->owner_ends();
    inbox_->deliver();
    CREEL_ASSERT(kernel_->buffers_out() == 0, "a provided buffer outlives the run of its ring");
    CREEL_ASSERT(late_descriptors_ == 0, "a connection that no fiber took outlives its ring");
}

// The ring's own read of wakes and its heartbeat bring nothing that a fiber waits for.
bool ring::may_deliver() const noexcept {
    if (held_ != own_held_ || !cancels_.empty() || !again_.empty() || !room_waiters_.empty())
        return true;
    bool others = false;
    requests_.for_each(
        [&](const sqe_request& r) { others = others || (&r != &wake_read_ && &r != &heartbeat_); });
    return others;
}

ring_statistics ring::statistics() const noexcept {
    ring_statistics all = counters_;
    all.operations_submitted = numbered_ - receives_numbered_;
    all.operations_in_flight = held_ - own_held_;
    all.registered_files = kernel_->files().count();
    all.late_descriptors = late_descriptors_;
    all.buffers_out = kernel_->buffers_out();
    all.submission_entries = entries_;
    all.completion_entries = uring_.cq.ring_entries;
    return all;
}

} // namespace creel::io::detail
