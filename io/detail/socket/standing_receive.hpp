// A receive that stays with the kernel from message to message (a multishot receive), for a stream
// that carries short ones: it saves an entry and the kernel's arming of a poll for each. Long ones
// are better received one by one, straight into the caller's buffer. Only for byte streams: of
// datagrams one would run into the next, and one that is longer than a buffer would be cut.
//
//     idle ── eight short receives in a row ──► standing ── a long message, no buffer left,
//      ▲                                           │        too much that nobody takes, close
//      └──────────── its last completion ──────────┘
//
// What arrives goes to the fiber that waits, or is held for the next recv, in the order of arrival:
// bytes from the old ring (carried_), then the provided buffers first_ to last_, then how it ended.
// So cancelling a recv that waits here costs the kernel nothing, and loses no byte.
#pragma once

#include <creel/fibers/cancelled.hpp>
#include <creel/fibers/waiter.hpp>
#include <creel/io/detail/descriptor/descriptor.hpp>
#include <creel/io/detail/ring/receive_buffers.hpp>
#include <creel/io/detail/ring/ring.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace creel::io::detail {

class connection;

class standing_receive {
public:
    explicit standing_receive(connection& stream) noexcept;
    ~standing_receive();
    standing_receive(const standing_receive&) = delete;
    standing_receive& operator=(const standing_receive&) = delete;

    // Must the next recv come here?
    [[nodiscard]] bool concerned() const noexcept { return concerned_; }

    // Bytes, or 0 at the end, or a negative error number; none: a single receive is to be made.
    // Parks. Throws: cancelled.
    [[gnu::always_inline]] inline std::optional<std::ptrdiff_t>
    receive(ring& r, descriptor_use& here, std::span<std::byte> buffer);

    // What a single receive gave: after enough short ones the next recv starts to stand.
    void learn(std::size_t bytes) noexcept {
        if (bytes > longest_short_bytes || bytes == 0)
            short_ones_ = 0;
        else if (++short_ones_ >= short_before_standing && allowed_)
            concerned_ = true;
    }

    // Ends it, for the stream closes: before this returns, but where the ring delivers completions,
    // soon. A fiber that waits is told. Must not switch.
    void end() noexcept;
    // Ends it before this returns: somebody else will receive from the descriptor. Waits for the
    // kernel, which has nothing else to wait for. If it stands, on the ring's thread.
    void stop_now() noexcept;
    // Lets go of the ring it stands on, whose thread this is; then calls `done`, perhaps at once.
    void let_go(mail& done) noexcept;

    [[nodiscard]] bool is(const descriptor_use& u) const noexcept { return &u == &kept_; }
    // Bytes received that no recv has had yet.
    [[nodiscard]] std::size_t pending() const noexcept;
    // The error it ended with, once, if no recv has had it yet; else 0. The kernel tells it to
    // nobody else any more.
    [[nodiscard]] int take_error() noexcept {
        return end_ != nothing && end_ != 0 ? -take_end() : 0;
    }

private:
    static constexpr std::size_t longest_short_bytes = receive_buffers::buffer_bytes / 2;
    static constexpr unsigned short_before_standing = 8;
    // A peer that sends ahead of its answers is common, one that floods is not to fill the pool.
    // What is beyond goes to the heap.
    static constexpr unsigned most_held = 4;
    static constexpr int nothing = 1; // of end_

    struct target : completion_target, sqe_request {
        standing_receive* self = nullptr;
    };
    struct membership : ring_member {
        standing_receive* self = nullptr;
    };
    // A fiber whose recv waits for what comes. Whoever clears receiver_ has given it its result, or
    // has told it to look again, and wakes it.
    struct receiver : waiter {
        receiver(standing_receive& r, std::span<std::byte> b) noexcept
            : waiter(kind), from(&r), buffer(b) {}

        static withdrawal withdraw(waiter& w, wake_reason) noexcept;
        static void describe(const waiter& w, std::string& text);
        static const waiter_kind kind;

        standing_receive* from;
        std::span<std::byte> buffer;
        std::ptrdiff_t result = look_again;
        static constexpr std::ptrdiff_t look_again = PTRDIFF_MIN;
    };

    void start(ring& r) noexcept;
    void stop() noexcept;
    void completed(int result, unsigned flags) noexcept;
    void deliver(unsigned id, std::size_t size_bytes) noexcept;
    void hold(unsigned id, std::size_t size_bytes, std::size_t taken_bytes) noexcept;
    [[nodiscard]] bool holds_any() const noexcept { return held_ != 0 || carried_ != nullptr; }
    std::size_t take_held(std::span<std::byte> buffer) noexcept;
    [[nodiscard]] bool carry() noexcept;
    void carry_or_lose() noexcept;
    int take_end() noexcept { return lost_ ? end_ : std::exchange(end_, nothing); }
    void drop_held() noexcept;
    void left_ring() noexcept;
    void tell_receiver(std::ptrdiff_t result) noexcept;
    [[noreturn]] void caught_two() const noexcept;

    connection* stream_;
    descriptor_use kept_{}; // the stream's list has it while this is armed
    ring* where_ = nullptr; // while it stands, or holds buffers of it
    receiver* receiver_ = nullptr;
    bool concerned_ = false;
    bool allowed_ = true; // false once the kernel refused, or another receives too
    bool armed_ = false;  // requested of the ring, or in the kernel's hands
    bool stopping_ = false;
    unsigned short_ones_ = 0;
    bool lost_ = false; // bytes, for want of memory: end_ stays what it is
    int end_ = nothing; // else how it ended, which no recv has heard of yet: 0 or -errno

    unsigned held_ = 0; // buffers of where_, linked from first_ to last_
    unsigned first_ = 0;
    unsigned last_ = 0;
    std::size_t taken_bytes_ = 0;            // of the first
    std::unique_ptr<std::byte[]> carried_{}; // received on a ring that was left
    std::size_t carried_bytes_ = 0;
    std::size_t carried_taken_bytes_ = 0;
    mail* letting_go_ = nullptr; // to be told at the last completion
    target target_{};
    cancel_request cancel_{};
    membership member_{};
};

// Inlined into the recv that calls it: after a switch the processor predicts no return right.
std::optional<std::ptrdiff_t> standing_receive::receive(ring& r, descriptor_use& here,
                                                        std::span<std::byte> buffer) {
    for (;;) {
        if (holds_any())
            return static_cast<std::ptrdiff_t>(take_held(buffer));
        if (end_ != nothing)
            return take_end();
        if (!armed_) [[unlikely]] {
            if (!allowed_ || short_ones_ < short_before_standing) {
                concerned_ = false;
                return std::nullopt;
            }
            start(r);
            if (!armed_)
                continue;
        }
        if (receiver_ != nullptr) [[unlikely]]
            caught_two();
        receiver me{*this, buffer};
        receiver_ = &me;
        here.waits = &me;
        const wake_reason reason = park(me);
        here.waits = nullptr;
        if (reason == wake_reason::cancelled)
            throw_cancelled();
        if (me.result != receiver::look_again)
            return me.result;
    }
}

} // namespace creel::io::detail
