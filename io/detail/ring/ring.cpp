#include <creel/io/detail/ring/hangup_probe.hpp>
#include <creel/io/detail/ring/ring.hpp>
#include <creel/io/detail/ring/ring_setup.hpp>

#include <creel/fibers/detail/system/valgrind.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <source_location>
#include <string>
#include <utility>

#include <poll.h>
#include <pthread.h>
#include <unistd.h>

namespace creel::io {
namespace detail {
namespace {

// No wait is longer, so that a surprise of clocks or signals cannot hang the loop for good. A
// timeout that stands in the ring costs nothing; one given to each wait reads the clock each time.
__kernel_timespec longest_wait{.tv_sec = 10, .tv_nsec = 0};

struct thread_state {
    ring* current = nullptr;
    ring_statistics last{};
};

// Not inlined, for a compiler may keep a thread_local's address across a switch.
[[gnu::noinline]] thread_state& this_thread() noexcept {
    static thread_local thread_state state;
    return state;
}

// Valgrind runs one thread at a time, and does not know (3.19) that io_uring_enter may sleep: all
// other threads would stand still. So the thread sleeps in ppoll, and not for long: the ring does
// not end that for a completion that waits for its thread to enter the kernel (DEFER_TASKRUN).
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

[[noreturn]] void enter_failed(int error_number) noexcept {
    const char* const name = ::strerrorname_np(error_number);
    const char* const meaning = error_number == EBADR
                                    ? "the kernel lost completions, for it had no memory for them"
                                    : ::strerrordesc_np(error_number);
    std::array<char, 256> text{};
    std::snprintf(text.data(), text.size(), "io_uring_enter failed with %s (%d): %s",
                  name != nullptr ? name : "an unknown error", error_number,
                  meaning != nullptr ? meaning : "unknown");
    assertion_failed("io_uring_enter", text.data(), std::source_location::current());
}

// A forked child has none of its parent's rings. Fails only without memory, as the program starts.
[[maybe_unused]] const int forgets_ring_in_forks =
    ::pthread_atfork(nullptr, nullptr, [] { this_thread().current = nullptr; });

} // namespace

void prepare_cancel(sqe_request& r, io_uring_sqe& entry) noexcept {
    io_uring_prep_cancel64(&entry, static_cast<cancel_request&>(r).target, 0);
    entry.user_data = ring::ignored;
}

// A fiber that waits for room in the submission queue.
struct ring::room_waiter : waiter, link {
    room_waiter() noexcept : waiter(kind) {}

    static withdrawal withdraw(waiter& w, wake_reason) noexcept {
        auto& self = static_cast<room_waiter&>(w);
        if (!self.linked())
            return withdrawal::pending;
        self.unlink();
        return withdrawal::withdrawn;
    }
    static void describe(const waiter&, std::string& text) {
        text += "room in the ring's submission queue";
    }
    static const waiter_kind kind;
};

const waiter_kind ring::room_waiter::kind{&room_waiter::withdraw, &room_waiter::describe, true};

ring::ring(std::unique_ptr<kernel_ring> kernel)
    : kernel_(std::move(kernel)),
      uring_(kernel_->uring()),
      entries_(uring_.sq.ring_entries),
      tail_(head()),
      enter_(&io_uring_enter2),
      takes_messages_(kernel_sends_messages() && !is_withheld(newer_feature::message)),
      box_(std::make_shared<mailbox>(*this)) {
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
    wake_read_.then = [](ring& self) noexcept { self.woken(); };
    stand(wake_read_);
    heartbeat_.fill = [](ring&, io_uring_sqe& entry) noexcept {
        io_uring_prep_timeout(&entry, &longest_wait, 0, 0);
    };
    stand(heartbeat_);
}

ring::~ring() {
    CREEL_ASSERT(held_ == 0, "a ring is destroyed while the kernel works for it");
}

std::unique_ptr<kernel_ring> ring::give_up_kernel() noexcept {
    CREEL_ASSERT(held_ == 0 && ending_, "a ring is kept while the kernel works for it");
    return refused_ ? nullptr : std::move(kernel_);
}

int ring::enter(unsigned wait_for, unsigned flags, void* argument, std::size_t bytes) noexcept {
    const unsigned to_submit = unsubmitted();
    io_uring_smp_store_release(uring_.sq.ktail, tail_);
    ++counters_.enters;
    const int result = enter_(static_cast<unsigned>(uring_.enter_ring_fd), to_submit, wait_for,
                              flags | enter_flags_, static_cast<sigset_t*>(argument), bytes);
    // EINTR, ETIME: the caller looks at the queues either way. EAGAIN, EBUSY: the kernel has no
    // memory, or wants its completions reaped first; what it did not take stays queued.
    if (result == -EAGAIN || result == -EBUSY) [[unlikely]]
        refused_ = true;
    else if (result < 0 && result != -EINTR && result != -ETIME) [[unlikely]]
        enter_failed(-result);
    if (unsubmitted() == 0) [[likely]]
        handed_over_ = counters_.operations_submitted;
    return result;
}

// Submits, and completes what is ready. The kernel stops at so many completions, but not below 20
// (IO_LOCAL_TW_DEFAULT_MAX); that it would wait for them the timeout of zero prevents.
void ring::enter_for(unsigned completions) noexcept {
    static __kernel_timespec no_time{};
    io_uring_getevents_arg argument{};
    argument.ts = reinterpret_cast<std::uintptr_t>(&no_time);
    if (completions == 0)
        enter(0, IORING_ENTER_GETEVENTS, nullptr, 0);
    else
        enter(completions, IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG, &argument,
              sizeof argument);
}

// True if there is room now.
bool ring::flush() noexcept {
    enter(0, 0, nullptr, 0);
    return tail_ - head() < entries_;
}

void ring::make_room() {
    while (!has_room()) {
        // The kernel refuses submissions until its completions are taken, or for want of memory.
        poll();
        if (has_room())
            return;
        ++counters_.room_waits;
        room_waiter w;
        room_waiters_.push(w);
        if (park(w) == wake_reason::cancelled)
            throw_cancelled();
    }
}

void ring::serve_room_waiters() noexcept {
    for (unsigned room = entries_ - unsubmitted(); room > 0 && !room_waiters_.empty(); --room)
        creel::wake(room_waiters_.pop());
}

void ring::serve_requests() noexcept {
    while (!requests_.empty() && has_room()) {
        sqe_request& r = requests_.pop();
        r.prepare(r, next_entry());
    }
}

// An operation whose descriptor was ready when its poll was armed is in no table of the kernel's
// until its task work has run (IO_APOLL_READY in io_uring/poll.c): a cancel would not find it, and
// if another took the data meanwhile, it would wait for good. If no task work is left, each that
// was submitted before is in a table or has completed; a wake that comes now leaves it there.
bool ring::kernel_finds_cancelled() noexcept {
    return cancels_.newest() <= handed_over_ &&
           (IO_URING_READ_ONCE(*uring_.sq.kflags) & IORING_SQ_TASKRUN) == 0;
}

// Until that is so, or the kernel takes nothing, or peers make work as fast as it is done. Returns
// how many completions it has delivered.
unsigned ring::catch_up() noexcept {
    unsigned delivered = 0;
    for (int i = 0; i < 16 && !cancels_.empty() && !kernel_finds_cancelled(); ++i) {
        enter_for(std::max(unsubmitted(), 1U));
        delivered += reap();
        if (unsubmitted() != 0)
            break;
    }
    return delivered;
}

// Fills what room there is, and says how many it took: without handing over, see poll(). Behind all
// other requests, for one may submit what is to be cancelled.
unsigned ring::serve_cancels() noexcept {
    unsigned taken = 0;
    if (requests_.empty() && !cancels_.empty() && kernel_finds_cancelled())
        for (; !cancels_.empty() && unsubmitted() < entries_; ++taken) {
            cancel_request& r = cancels_.pop();
            r.prepare(r, next_entry());
        }
    return taken;
}

void ring::cancel(operation& op) noexcept {
    // A completed one is woken, and its fiber about to leave the stack that it lies on: a request
    // queued now would be there still when that stack is something else.
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
                if (op.brings_descriptor && done.res >= 0)
                    ++late_descriptors_;
            } // else a notification, which comes behind the result (IORING_CQE_F_NOTIF)
            if ((done.flags & IORING_CQE_F_MORE) != 0)
                continue;
            ++counters_.operations_completed;
            if (op.cancel.linked()) [[unlikely]]
                op.cancel.unlink(); // it lies on the stack that is about to go on
            creel::wake(op);
        } else if ((data & tag_mask) == target_tag) {
            auto& target = *reinterpret_cast<completion_target*>(
                static_cast<std::uintptr_t>(data & ~tag_mask));
            target.complete(target, done.res, done.flags);
        } else if (data == message) {
            ++held_; // which it had no part in
            // A read and a write, so that it sees what each wake() that left it at that was for.
            message_under_way_.exchange(false);
            woken();
        }
        // Else a cancel's own completion: 0, ENOENT and EALREADY all decide nothing.
    }
    if (first != end)
        io_uring_smp_store_release(cq.khead, end);
    reaping_ = false;
    counters_.completions += end - first;
    return end - first;
}

void ring::poll() noexcept {
    serve_requests();
    // What was cancelled leaves the kernel's table when its completion is made, and must be gone
    // before the next ones are looked for.
    unsigned cancels = 0;
    do {
        catch_up();
        cancels = serve_cancels();
        const unsigned kernel_wants =
            IO_URING_READ_ONCE(*uring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
        if (unsubmitted() != 0 || kernel_wants != 0) {
            if ((kernel_wants & IORING_SQ_CQ_OVERFLOW) != 0) {
                // The kernel moves what has overflown into the room we make.
                ++counters_.overflows;
                reap();
            }
            enter_for(cancels);
        }
        reap();
    } while (cancels != 0 && !cancels_.empty());
    if (!room_waiters_.empty()) [[unlikely]]
        serve_room_waiters();
    attend();
}

void ring::wait_until(time_point deadline) noexcept {
    attend(); // also before: what ran since the last poll may have begun a shutdown
    if (reap() != 0)
        return;
    serve_requests();
    if (supervisor_ != nullptr)
        deadline = std::min(deadline, supervisor_->deadline);
    // With the wake read not handed to the kernel, or fibers waiting for room, it must not sleep;
    // nor with completions that have overflown, which poll() takes in and counts.
    const unsigned overflown = IO_URING_READ_ONCE(*uring_.sq.kflags) & IORING_SQ_CQ_OVERFLOW;
    if (!requests_.empty() || !cancels_.empty() || !room_waiters_.empty() || overflown != 0) {
        poll();
        return;
    }
    if (deadline == time_point::max()) {
        enter(1, IORING_ENTER_GETEVENTS, nullptr, 0);
    } else {
        const time_point t = now();
        if (deadline <= t) { // first, for the difference overflows where that is time_point::min()
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

// CLOCK_MONOTONIC_COARSE is the steady clock as of the last timer tick: 5 ns to read instead of 24.
// Its resolution is a tick, 10 ms on a kernel of 100 Hz, which is too coarse.
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

// The cheapest is a message: a completion that the kernel makes for us. Measured in
// docs/rationale.md. Nobody calls this during our destructor (scheduler::kick_if_sleeping(),
// mailbox::post()), so the descriptor is that of no other ring.
//
// Nothing is lost by leaving it at a message that is under way. Who does so has made its work known
// before its exchange; the ring, which takes the flag down by an exchange when it reaps the message
// and looks for work after it, or the sender, who does the same before it goes the other way, comes
// later in the order of that flag, and so sees it.
void ring::wake() noexcept {
    const int saved = errno;
    if (takes_messages_) {
        if (message_under_way_.exchange(true) || send_message(uring_.ring_fd, message)) {
            errno = saved;
            return;
        }
        message_under_way_.exchange(false); // for want of memory
    }
    const std::uint64_t one = 1;
    // An eventfd counts, so it cannot fail for being full; the count latches the wake.
    [[maybe_unused]] const ssize_t written = ::write(wake_descriptor(), &one, sizeof one);
    errno = saved;
}

void ring::woken() noexcept {
    box_->deliver();
    if (supervisor_ != nullptr)
        supervisor_->attend(*supervisor_);
}

void ring::stand(standing& s) noexcept {
    s.home = this;
    s.prepare = [](sqe_request& r, io_uring_sqe& entry) noexcept {
        auto& self = static_cast<standing&>(r);
        ++self.home->standing_;
        self.fill(*self.home, entry);
        entry.user_data = tagged(static_cast<completion_target&>(self));
    };
    s.complete = [](completion_target& t, int, unsigned) noexcept {
        auto& self = static_cast<standing&>(t);
        --self.home->standing_;
        if (self.then != nullptr)
            self.then(*self.home);
        if (!self.home->ending_)
            self.home->request(self);
    };
    request(s);
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

void ring::attend() noexcept {
    if (supervisor_ != nullptr && supervisor_->watching) [[unlikely]]
        supervisor_->attend(*supervisor_);
}

void ring::wait_briefly() noexcept {
    CREEL_ASSERT(!reaping_, "the ring waits while it delivers completions");
    serve_requests();
    const unsigned delivered = catch_up();
    const unsigned cancels = serve_cancels();
    if (reap() + delivered == 0) // each cancel has a completion of its own
        enter(std::max(cancels, 1U), IORING_ENTER_GETEVENTS, nullptr, 0);
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
    while (held_ != 0 || !requests_.empty() || !cancels_.empty());
    // Only now, for until here a mail finds an owner who may still work on what it is about.
    box_->owner_ends();
    box_->deliver();
    CREEL_ASSERT(kernel_->buffers_out() == 0, "a provided buffer outlives the run of its ring");
    CREEL_ASSERT(late_descriptors_ == 0, "a connection that nobody took outlives its ring");
}

ring_statistics ring::statistics() const noexcept {
    ring_statistics all = counters_;
    all.operations_in_flight = held_ - standing_;
    all.registered_files = kernel_->files().count();
    all.late_descriptors = late_descriptors_;
    all.buffers_out = kernel_->buffers_out();
    all.submission_entries = entries_;
    all.completion_entries = uring_.cq.ring_entries;
    return all;
}

ring* current_ring() noexcept {
    return this_thread().current;
}

void set_current_ring(ring* r) noexcept {
    this_thread().current = r;
}

ring_statistics& last_statistics() noexcept {
    return this_thread().last;
}

void no_ring(const char* call) noexcept {
    const std::string message =
        std::string{call} + ": called on a thread without a ring; call it inside io::run()";
    assertion_failed("current_ring() != nullptr", message.c_str(), std::source_location::current());
}

} // namespace detail

ring_statistics statistics() noexcept {
    const detail::ring* r = detail::current_ring();
    return r != nullptr ? r->statistics() : detail::last_statistics();
}

} // namespace creel::io
