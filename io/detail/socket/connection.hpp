// The record behind a stream: one fiber may receive and one may send at the same time.
#pragma once

#include <creel/io/detail/descriptor/descriptor.hpp>
#include <creel/io/detail/socket/standing_receive.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

namespace creel::io::detail {

// Ends the process: two fibers `verb` ("receive", "send") on that stream at once.
[[noreturn]] void two_fibers_at_once(const char* verb, int fd) noexcept;

class connection final : public descriptor {
public:
    // Takes over the descriptor, even if it throws. Throws: std::bad_alloc.
    static connection* adopt(owned_fd fd);

    // As the functions of tcp_stream.
    std::size_t recv(std::span<std::byte> buffer);
    void recv_exact(std::span<std::byte> buffer);
    std::size_t send(std::span<const std::byte> bytes);
    void send_all(std::span<const std::byte> bytes);

    // Its slot in the file table of its ring, or -1.
    [[nodiscard]] int slot() const noexcept { return slot_; }

    // Until the next recv the caller may receive from the descriptor; bytes that have been received
    // already stay here.
    // Parks: as come_here(). Threads: as recv, or any before its first use.
    void share(const char* call);
    // Bytes received that no recv has taken yet.
    [[nodiscard]] std::size_t pending() const noexcept { return standing_.pending(); }
    // An error that the kernel has reported and no recv has thrown yet; else 0. It is returned
    // once.
    [[nodiscard]] int take_error() noexcept { return standing_.take_error(); }

private:
    friend class standing_receive;

    enum direction : unsigned char { receiving, sending };

    explicit connection(int fd) noexcept : descriptor(kind, fd), standing_(*this) {}

    struct outcome {
        std::ptrdiff_t result; // bytes or -errno
        bool was_cancelled;    // by a cancel of the fiber, and not by a close
    };
    // Inlined: after a switch the processor predicts no return correctly, so each frame costs.
    // One operation of the kernel. `flags` are those of recv(2) and send(2).
    template <direction Way>
    [[gnu::always_inline]] inline outcome operate(ring& r, descriptor_use& here,
                                                  std::uintptr_t data, std::size_t size_bytes,
                                                  unsigned flags, bool poll_first);
    // Moves something once, in the way that suits the stream, if there is anything to move.
    template <direction Way>
    [[gnu::always_inline]] inline std::size_t transfer(ring& r, descriptor_use& here,
                                                       std::uintptr_t data, std::size_t size_bytes,
                                                       unsigned flags);
    // The same as often as it takes to move all, in one call.
    template <direction Way>
    [[gnu::always_inline]] inline void all(std::uintptr_t data, std::size_t size_bytes,
                                           unsigned flags);
    // Throws the error in words; returns if the operation must be made again.
    template <direction Way>
    void explain(int result, bool was_cancelled);
    // For a recv that found the end. Throws: std::system_error if the connection broke.
    void check_whole();

    void register_with(ring& r) noexcept;
    void unregister() noexcept;

    static void end_own(descriptor& d) noexcept;
    static void let_go(descriptor& d, creel::inbox_node& done) noexcept;
    static void destroy(descriptor& d) noexcept;
    static const descriptor_kind kind;

    bool busy_[2] = {false, false}; // by direction: a stream has at most one operation of each
    bool holds_data_ = false;       // the last receive left data in the socket
    // The error number by which the connection broke; 0: it has not, as far as is known.
    int broken_ = 0;
    unsigned operations_ = 0; // on its ring; not counted after the registration
    int slot_ = -1;           // in the file table of its ring
    standing_receive standing_;
};

} // namespace creel::io::detail
