// A receive that stays with the kernel from message to message (a multishot receive), for a stream
// that carries short messages. It saves an entry for each message, and saves the kernel the arming
// of a poll. Long messages are better received one by one, straight into the caller's buffer. Only
// for byte streams: a datagram would run into the next one, and a datagram longer than a buffer
// would be cut.
//
// Its states, and the function that makes each transition:
//
//     single ──1──► wanted ──2──► requested ──4──► standing ──6──► stopping
//       ▲  ▲          │ │             │               │               │
//       │  └────9─────┘ └─3─► refused └──5──► ended ◄─┴───────7───────┘
//       │                        ▲              │
//       └───────────9────────────┼──────────────┘
//                                └─9─ ended_for_good ◄── standing, stopping: 8
//
//   1 want()             eight short single receives in a row, which leave nothing in the socket
//   2 request()          the next recv puts the receive into the ring's queue
//   3 refuse()           the next recv learns that the ring has no such receives
//   4 submitted()        the ring has filled in the entry
//   5 take_back()        stop(), for a cause of 6, before there is an entry
//   6 cancel()           stop(): a message that fills a buffer, few buffers left, four buffers that
//                        no recv takes, a move, a close, another reader of the descriptor, the end
//                        of the ring
//   7 last_completion()  of the receive: by 6, no buffer left, the peer's end, an error
//   8 last_completion()  it said that the descriptor is nonblocking: such a receive cannot wait
//   9 forget()           a recv finds nothing left here; from `wanted`: another reader
//
// In `single` and `refused` a recv makes a receive of its own and does not come here. In all other
// states it comes here first.
//
// Bytes that arrive go to the fiber that waits, or are held for the next recv (held_bytes). The end
// of the receive comes behind them. So the cancel of a recv that waits here costs the kernel
// nothing, and loses no byte.
#pragma once

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/waiter.hpp>
#include <creel/io/detail/descriptor/descriptor.hpp>
#include <creel/io/detail/ring/ring.hpp>
#include <creel/io/detail/socket/held_bytes.hpp>
#include <creel/io/detail/socket/untold_end.hpp>

#include <cstddef>
#include <optional>
#include <span>
#include <string>

namespace creel::io::detail {

class connection;

class standing_receive {
public:
    explicit standing_receive(connection& stream) noexcept;
    ~standing_receive();
    standing_receive(const standing_receive&) = delete;
    standing_receive& operator=(const standing_receive&) = delete;

    // True if the next recv must come here.
    [[nodiscard]] bool takes_next_recv() const noexcept { return state_ > state::refused; }

    // The number of bytes, 0 at the end, or a negative error number. Empty: the caller must make a
    // single receive, and takes_next_recv() is false.
    // Parks: until something comes. Cancel: yes. Throws: cancelled.
    [[gnu::always_inline]] inline std::optional<std::ptrdiff_t>
    receive(ring& r, descriptor_use& here, std::span<std::byte> buffer);

    // After a single receive of this many bytes. One that leaves bytes in the socket has not
    // received a short message, but a part of what its peer has sent.
    void learn(std::size_t bytes, bool leaves_bytes) noexcept {
        if (bytes > longest_short_bytes || bytes == 0 || leaves_bytes)
            short_ones_ = 0;
        else if (++short_ones_ >= short_before_standing && state_ == state::single)
            want();
    }

    // Ends it because the stream closes: before this returns, or soon if the ring is delivering
    // completions. A fiber that waits is told. Must not switch.
    void end() noexcept;
    // Ends it before this returns, because another reader will receive from the descriptor. Blocks
    // until the kernel has cancelled it, which takes no time. Threads: the ring's, if it stands.
    void stop_now() noexcept;
    // Lets go of its ring; then delivers `done`, perhaps at once. Threads: the ring's, or any after
    // the ring's end.
    void let_go(inbox_node& done) noexcept;

    [[nodiscard]] bool is(const descriptor_use& u) const noexcept { return &u == &kept_; }
    // Bytes received that no recv has taken yet.
    [[nodiscard]] std::size_t pending() const noexcept { return held_.size_bytes(); }
    // The error that it ended with, once, if no recv has thrown it yet; else 0. The kernel does not
    // tell it a second time.
    [[nodiscard]] int take_error() noexcept { return end_.is_error() ? -end_.take() : 0; }

private:
    static constexpr std::size_t longest_short_bytes = receive_buffers::buffer_bytes / 2;
    static constexpr unsigned short_before_standing = 8;
    // Buffers that one stream may hold. A peer that sends some messages ahead is common. With more
    // the receive stops; until it has stopped, a peer that floods can fill the pool.
    static constexpr unsigned most_held = 4;

    // In this order: takes_next_recv() and is_with_ring() compare.
    enum class state : unsigned char {
        single,         // the stream's messages are not known to be short
        refused,        // single for good
        wanted,         // the next recv requests it
        ended,          // the next recv takes what is left
        ended_for_good, // the same, and it is not requested again
        requested,      // in the ring's queue
        standing,       // an entry names it: its last completion is to come
        stopping,       // the same, and its cancel is requested
    };

    struct target : completion_target, sqe_request {
        standing_receive* self = nullptr;
    };
    struct membership : ring_member {
        standing_receive* self = nullptr;
    };
    // A fiber whose recv waits for bytes. tell_receiver() clears receiver_, gives the fiber its
    // result or tells it to look again, and wakes it. withdraw() clears receiver_ for a cancel.
    struct receiver : waiter {
        receiver(standing_receive& r, std::span<std::byte> b) noexcept
            : waiter(kind), from(&r), buffer(b) {}

        static withdrawal withdraw(waiter& w, wake_reason) noexcept;
        static void describe(const waiter& w, std::string& text);
        static const waiter_kind kind;

        standing_receive* from;
        std::span<std::byte> buffer;
        std::optional<std::ptrdiff_t> result{}; // none: look again at what is here
    };

    [[nodiscard]] bool is_with_ring() const noexcept { return state_ >= state::requested; }
    bool begin(ring& r) noexcept;
    void stop() noexcept;

    void want() noexcept;
    void request(ring& r) noexcept;
    void refuse() noexcept;
    void submitted() noexcept;
    void take_back() noexcept;
    void cancel() noexcept;
    void last_completion(bool for_good) noexcept;
    void forget() noexcept;
    void leave_kernel(state next) noexcept;

    void completed(int result, unsigned flags) noexcept;
    void note_end(int result) noexcept;
    void deliver(unsigned id, std::size_t size_bytes) noexcept;
    void hold(unsigned id, std::size_t size_bytes, std::size_t taken_bytes) noexcept;
    std::ptrdiff_t take_held(std::span<std::byte> buffer) noexcept;
    void carry_or_lose() noexcept;
    void leave_ring() noexcept;
    void tell_receiver(std::optional<std::ptrdiff_t> result) noexcept;
    [[noreturn]] void caught_two() const noexcept;

    connection* stream_;
    descriptor_use kept_{}; // in the stream's list while this is with the ring
    ring* where_ = nullptr; // while this is with the ring, or holds buffers of it
    receiver* receiver_ = nullptr;
    state state_ = state::single;
    untold_end end_{};
    unsigned short_ones_ = 0; // single receives in a row
    held_bytes held_{};
    inbox_node* letting_go_ = nullptr; // to be told at the last completion
    target target_{};
    cancel_entry cancel_{};
    membership member_{};
};

// Inlined into the recv that calls it: after a switch the processor predicts no return correctly.
std::optional<std::ptrdiff_t> standing_receive::receive(ring& r, descriptor_use& here,
                                                        std::span<std::byte> buffer) {
    for (;;) {
        if (!held_.empty())
            return take_held(buffer);
        if (end_.exists())
            return end_.take();
        if (!is_with_ring() && !begin(r)) [[unlikely]]
            return std::nullopt;
        if (receiver_ != nullptr) [[unlikely]]
            caught_two();
        receiver me{*this, buffer};
        receiver_ = &me;
        here.waits = &me;
        const wake_reason reason = park(me);
        here.waits = nullptr;
        if (reason == wake_reason::cancelled)
            throw_cancelled();
        if (me.result)
            return me.result;
    }
}

} // namespace creel::io::detail
