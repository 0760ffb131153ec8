// The ring of one thread: an io_uring, as the poller of that thread's scheduler.
//
// Its verbs: perform() submits an operation and parks its fiber: the only function that submits for
// fibers. request() submits entries that no fiber waits for: a cancel, a standing receive.
// reap() is the only loop that looks at completions; it makes fibers ready and runs no user code.
// poll() and wait_until() are the scheduler's, wake() is for every thread. end() takes the ring
// down.
//
//     begun ── end() ──► ending ── the last completion is reaped ──► ended ── give_up_kernel()
//
// ring.cpp begins and ends the ring, ring_submission.cpp hands entries to the kernel, ring_poll.cpp
// has the rounds: cancels, completions, waits.
//
// The kernel works on this ring only while its thread is in io_uring_enter (DEFER_TASKRUN). So all
// of this is for that one thread, except for the functions that are marked.
#pragma once

#include <creel/fibers/assert.hpp>
#include <creel/fibers/poller.hpp>
#include <creel/fibers/waiter.hpp>
#include <creel/io/detail/descriptor/descriptor_table.hpp>
#include <creel/io/detail/ring/cancel_queue.hpp>
#include <creel/io/detail/ring/kernel_ring.hpp>
#include <creel/io/detail/ring/operation.hpp>
#include <creel/io/detail/ring/request.hpp>
#include <creel/io/detail/ring/ring_inbox.hpp>
#include <creel/io/detail/ring/supervisor.hpp>
#include <creel/io/detail/ring/thread_ring.hpp>
#include <creel/io/detail/ring/wake_signal.hpp>
#include <creel/io/detail/socket/connect_lines.hpp>
#include <creel/io/statistics.hpp>

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <memory>

namespace creel::io::detail {

// A holder of buffers of the ring, which must let go of them when the ring ends.
struct ring_member : link {
    void (*ring_ends)(ring_member&) noexcept = nullptr;
};

class ring final : public poller {
public:
    explicit ring(std::unique_ptr<kernel_ring> kernel);
    ~ring();

    time_point now() noexcept override { return clock::now(); }
    time_point coarse_now() noexcept override;
    void poll() noexcept override;
    void wait_until(time_point deadline) noexcept override;
    void wake() noexcept override { wake_signal_.send(); } // Threads: any.
    [[nodiscard]] bool may_deliver() const noexcept override;
    [[nodiscard]] poller_work work_done() const noexcept override {
        return {counters_.completions, counters_.enters};
    }

    // True when perform() can go ahead without waiting. If not, call make_room() first, which
    // parks.
    [[nodiscard]] bool has_room() noexcept { return unsubmitted() < entries_ || flush(); }
    // Throws: cancelled.
    void make_room();

    // Has the entry filled in, submits it with the next poll or wait, and parks until its last
    // completion; op.result and op.flags then have the outcome. Nothing may have switched since
    // has_room() or make_room(). Cost: no allocation, no system call of its own.
    template <typename Prepare>
    void perform(operation& op, Prepare&& prepare) {
        io_uring_sqe& entry = next_entry();
        prepare(entry);
        entry.user_data = tagged(op);
        op.cancel.number = ++numbered_;
        // The withdraw of an operation always says `pending`. So the reason tells nothing: only the
        // operation's own last completion ends this park.
        static_cast<void>(park(op));
    }

    // Queues a request. It gets its entry with the next poll or wait, in order; cancels come after
    // all other requests.
    void request(sqe_request& r) noexcept { requests_.push(r); }
    void request(cancel_entry& r) noexcept { cancels_.push(r); }
    // Takes a request off the list that it is on, if any. A cancel may wait there for the kernel's
    // answer, which is then ignored.
    static void retract(sqe_request& r) noexcept {
        if (r.linked())
            r.unlink();
    }

    // Asks the kernel to cancel the operation; its last completion comes all the same. Does nothing
    // the second time, or after the result has come.
    void cancel(operation& op) noexcept;

    [[nodiscard]] static std::uint64_t tagged(const operation& op) noexcept {
        return reinterpret_cast<std::uintptr_t>(&op);
    }
    [[nodiscard]] static std::uint64_t tagged(const completion_target& t) noexcept {
        return reinterpret_cast<std::uintptr_t>(&t) | target_tag;
    }
    [[nodiscard]] static std::uint64_t tagged(const cancel_entry& c) noexcept {
        return c.number << tag_bits | cancel_tag;
    }
    static constexpr std::uint64_t ignored = 2; // of a completion that tells nothing

    void join(ring_member& m) noexcept { members_.push(m); }

    [[nodiscard]] descriptor_table& descriptors() noexcept { return descriptors_; }
    [[nodiscard]] connect_lines& connects() noexcept { return connects_; }
    [[nodiscard]] registered_files& files() noexcept { return kernel_->files(); }

    // False: there are no buffers for standing receives, or the kernel is too old, or it misses
    // ends (hangup_probe.hpp), or that could not be tried now.
    [[nodiscard]] bool receives_may_stand() noexcept;
    void receive_stands(bool begins) noexcept {
        counters_.receives_standing += begins ? 1U : ~0ULL;
    }
    // The number of a standing receive whose entry is filled in now, for its cancel_entry.
    [[nodiscard]] std::uint64_t number_receive() noexcept {
        ++receives_numbered_;
        return ++numbered_;
    }
    [[nodiscard]] receive_buffers& buffers() noexcept { return kernel_->buffers(); }

    // Blocks the thread until the kernel has completed something: only for an entry that completes
    // soon. Not within reap().
    void wait_briefly() noexcept;
    [[nodiscard]] bool is_reaping() const noexcept { return reaping_; }

    void set_supervisor(supervisor* s) noexcept { supervisor_ = s; }
    [[nodiscard]] int wake_descriptor() const noexcept { return kernel_->wake_descriptor(); }
    [[nodiscard]] const std::shared_ptr<ring_inbox>& inbox() const noexcept { return inbox_; }

    // Cancels and reaps all that the kernel still holds. No fiber may wait here any more.
    void end() noexcept;
    [[nodiscard]] bool ending() const noexcept { return ending_; }
    // The kernel's part, for the thread's next run; null if the kernel has refused something. Only
    // after end(), and before the destructor.
    [[nodiscard]] std::unique_ptr<kernel_ring> give_up_kernel() noexcept;

    [[nodiscard]] ring_statistics statistics() const noexcept;
    // A fiber has taken the descriptor that its operation brought.
    void descriptor_taken() noexcept { --late_descriptors_; }

    // The system call; tests put a function here that refuses, or that spoils the entries.
    using enter_function = int (*)(unsigned ring, unsigned to_submit, unsigned wait_for,
                                   unsigned flags, sigset_t* argument, std::size_t argument_bytes);
    void set_enter(enter_function f) noexcept { enter_ = f; }
    [[nodiscard]] io_uring_sqe* entries() noexcept { return uring_.sq.sqes; }

private:
    static constexpr unsigned tag_bits = 3;
    static constexpr std::uint64_t tag_mask = 7;
    static constexpr std::uint64_t target_tag = 1; // 0: an operation
    static constexpr std::uint64_t cancel_tag = 4;

    // An operation of the ring's own, which is under way until the ring ends.
    struct own_operation : completion_target, sqe_request {
        ring* on = nullptr;
        void (*fill)(ring&, io_uring_sqe&) noexcept = nullptr;
        void (*then)(ring&) noexcept = nullptr; // at each completion; may be null
    };
    struct room_waiter;

    [[nodiscard]] unsigned unsubmitted() const noexcept {
        return tail_ - io_uring_smp_load_acquire(uring_.sq.khead);
    }

    io_uring_sqe& next_entry() noexcept {
        CREEL_ASSERT(unsubmitted() < entries_, "perform() without has_room()");
        ++held_;
        return uring_.sq.sqes[tail_++ & (entries_ - 1)];
    }

    void keep_up(own_operation& o) noexcept;
    void serve_other_threads() noexcept;

    void enter_for(unsigned completions) noexcept;
    bool flush() noexcept;
    int enter(unsigned wait_for, unsigned flags, void* argument, std::size_t bytes) noexcept;
    void serve_room_waiters() noexcept;

    unsigned reap() noexcept;
    void serve_requests() noexcept;
    [[nodiscard]] unsigned serve_cancels() noexcept;
    void answered(std::uint64_t number, int result) noexcept;
    void ask_again() noexcept;
    void attend() noexcept;

    std::unique_ptr<kernel_ring> kernel_;
    io_uring& uring_;        // the kernel's
    const unsigned entries_; // of the submission queue, a power of two
    unsigned tail_;          // of the submission queue; the kernel learns it at each enter
    unsigned enter_flags_ = 0;
    unsigned held_ = 0; // entries handed out less last completions reaped
    // Operations and standing receives have numbers, in the order in which their entries are filled
    // in: for their cancels.
    std::uint64_t numbered_ = 0;
    std::uint64_t receives_numbered_ = 0; // standing receives among them
    unsigned late_descriptors_ = 0;
    enter_function enter_;
    circle<sqe_request> requests_;
    cancel_queue cancels_{};
    circle<cancel_entry> answering_; // with the kernel, which has not answered yet
    circle<cancel_entry> again_;     // not found
    connect_lines connects_{};
    circle<room_waiter> room_waiters_;
    circle<ring_member> members_;
    descriptor_table descriptors_{};
    supervisor* supervisor_ = nullptr;
    own_operation wake_read_{};
    std::uint64_t wake_count_ = 0; // the wake read reads into it
    own_operation heartbeat_{};
    unsigned own_held_ = 0; // how many of these two are counted in held_
    bool ending_ = false;
    bool reaping_ = false;
    bool refused_ = false; // the kernel did not take an entry, at least not at once
    wake_signal wake_signal_;
    std::shared_ptr<ring_inbox> inbox_;
    ring_statistics counters_{};
};

} // namespace creel::io::detail
