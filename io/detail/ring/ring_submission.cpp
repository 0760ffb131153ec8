// How a ring hands its entries to the kernel, and what fibers do while the queue is full.
#include <creel/io/detail/ring/ring.hpp>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <source_location>
#include <string>

namespace creel::io::detail {
namespace {

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

} // namespace

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

int ring::enter(unsigned wait_for, unsigned flags, void* argument, std::size_t bytes) noexcept {
    const unsigned to_submit = unsubmitted();
    io_uring_smp_store_release(uring_.sq.ktail, tail_);
    ++counters_.enters;
    const int result = enter_(static_cast<unsigned>(uring_.enter_ring_fd), to_submit, wait_for,
                              flags | enter_flags_, static_cast<sigset_t*>(argument), bytes);
    // EINTR, ETIME: the caller looks at the queues in any case. EAGAIN, EBUSY: the kernel has no
    // memory, or wants its completions reaped first; the entries that it did not take stay queued.
    if (result == -EAGAIN || result == -EBUSY) [[unlikely]]
        refused_ = true;
    else if (result < 0 && result != -EINTR && result != -ETIME) [[unlikely]]
        enter_failed(-result);
    return result;
}

// Submits, and completes what is ready. The kernel goes on to this many completions, or to 20
// (IO_LOCAL_TW_DEFAULT_MAX) if that is more. The timeout of zero keeps it from waiting for them.
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
    return unsubmitted() < entries_;
}

void ring::make_room() {
    while (!has_room()) {
        // The kernel takes no entries while it has no memory or its completions are not reaped.
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

} // namespace creel::io::detail
