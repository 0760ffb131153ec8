// A connected byte stream: TCP, or a Unix stream socket.
//
//     auto peer = io::tcp_stream::connect(io::endpoint{"127.0.0.1", 8080});
//     peer.send_all(request);
//     while (auto n = peer.recv(buffer))    // 0: the peer has sent all it will
//         use(std::span{buffer}.first(n));
//
// One fiber may receive and one send at the same time; two doing the same is a bug that is caught.
// Buffers may lie on the stack: no call returns before the kernel is done with them, also when it
// is cancelled. `cancelled` means that no byte has moved. A peer that breaks off is an error
// (std::system_error that names it), never a signal. A deadline comes from a scope around the call.
//
// A stream that carries short messages (eight in a row of at most 1 KiB) leaves its receive with
// the kernel, which puts what comes into buffers of the ring. They hold at most a few messages that
// no recv has asked for yet; nothing of that shows but in native_handle, release and pending().
#pragma once

#include <creel/io/endpoint.hpp>
#include <creel/io/stream_options.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <utility>

namespace creel::io {

namespace detail {
class connection;
}

class tcp_listener;

class tcp_stream {
public:
    // Parks: until the peer has answered. Cancel: yes, and the attempt is given up.
    // Threads: those inside io::run. Throws: cancelled, std::system_error that names `to`.
    [[nodiscard]] static tcp_stream connect(const endpoint& to, const stream_options& options = {});

    // Takes ownership of a connected stream socket, blocking or not, also one whose peer has broken
    // off. If it throws, the socket is closed, unless it is 0, 1 or 2, which are never closed.
    // Threads: any.
    // Throws: std::system_error that says what the descriptor is instead; std::bad_alloc.
    // Cost: four system calls.
    [[nodiscard]] static tcp_stream adopt(int fd, const stream_options& options = {});

    // Closes without waiting, also while an exception unwinds: the peer reads an end of file. (For
    // a reset: set_linger(0s) before.) Calls that other fibers have in it end with
    // bad_file_descriptor, and then the descriptor is closed; at once if there are none. Copies of
    // it (dup(2), a child process) stay as they are, but that of a TCP stream with pending() bytes
    // becomes one that is closed by a reset. Threads: any.
    ~tcp_stream();
    tcp_stream(tcp_stream&& other) noexcept
        : record_(std::exchange(other.record_, nullptr)),
          former_peer_(std::move(other.former_peer_)) {}
    tcp_stream& operator=(tcp_stream&& other) noexcept;

    // Receives what there is, at least one byte; 0 when the peer has sent all it will, and for an
    // empty buffer, at once. Of a connection that broke it never says 0: also if a send was told of
    // that first, it is an error here.
    // Parks: until there is something. Cancel: yes, no byte is lost. Threads: that of the ring it
    // is used on, where no other fiber receives. Throws: cancelled, std::system_error.
    [[nodiscard]] std::size_t recv(std::span<std::byte> buffer);

    // Receives until the buffer is full.
    // Parks: until then. Cancel: yes; partial_cancelled tells how many bytes are in the buffer.
    // Threads: as recv. Throws: partial_cancelled, unexpected_eof, std::system_error.
    void recv_exact(std::span<std::byte> buffer);

    // Hands at least one byte to the kernel, as many as it takes; returns how many. An empty buffer
    // sends nothing. Parks: until the kernel has room. Cancel: yes, nothing was sent then. Threads:
    // that of the ring it is used on, where no other fiber sends. Throws: cancelled,
    // std::system_error.
    [[nodiscard]] std::size_t send(std::span<const std::byte> bytes);

    // Hands all of it to the kernel.
    // Parks: until then. Cancel: yes; partial_cancelled tells how many bytes were handed over.
    // Threads: as send. Throws: partial_cancelled, std::system_error.
    void send_all(std::span<const std::byte> bytes);

    // Tells the peer that no more will come; its recv returns 0. Receiving goes on.
    // Parks: no. Threads: as send. Throws: std::system_error.
    void shutdown_send();

    // Options: <creel/io/stream_options.hpp> says what they mean. Those of TCP alone, keep-alive
    // and the user timeout, throw operation_not_supported on a Unix stream; negative times throw
    // invalid_argument. The getters ask the kernel, and so tell what it has made of it.
    // Parks: no. Throws: std::system_error that names option and peer. Cost: system calls.

    // TCP_NODELAY, on from the beginning. A Unix stream never delays, and takes either.
    void set_no_delay(bool on);
    [[nodiscard]] bool no_delay() const;
    void set_keep_alive(const keep_alive_options& value);
    [[nodiscard]] keep_alive_options keep_alive() const;
    // TCP_USER_TIMEOUT: how long what was sent may stay without an acknowledgement, or without room
    // at the peer, until the connection has failed (timed_out); also how long keep-alive goes on.
    // In milliseconds, rounded up; 0: the system's, about a quarter of an hour.
    void set_user_timeout(saturating_duration limit);
    [[nodiscard]] duration user_timeout() const;
    // SO_LINGER: what closing does with bytes that the peer has not acknowledged. Off (the
    // default): the kernel goes on sending them, and no call tells how that ends. 0: close drops
    // them, and the peer gets a reset: for a transfer that failed half-way, which the peer would
    // otherwise take for whole. More, in seconds, rounded up: close(2) waits until they have
    // arrived, at most so long; then the kernel goes on as if it were off. That wait is a helper
    // thread's: neither close() nor the destructor stops for it. On a Unix stream it does nothing.
    void set_linger(std::optional<saturating_duration> limit);
    [[nodiscard]] std::optional<duration> linger() const;
    // SO_RCVBUF, SO_SNDBUF. Linux doubles the value, for its own bookkeeping, which the getter then
    // shows; cuts it before to net.core.rmem_max and wmem_max; and no longer adapts it by itself.
    void set_receive_buffer_bytes(std::size_t value);
    [[nodiscard]] std::size_t receive_buffer_bytes() const;
    void set_send_buffer_bytes(std::size_t value);
    [[nodiscard]] std::size_t send_buffer_bytes() const;

    // As the kernel knows them; the peer's is known also after it has broken off.
    // Parks: no. Throws: std::system_error.
    [[nodiscard]] endpoint local_endpoint() const;
    [[nodiscard]] endpoint remote_endpoint() const;

    // False once it was closed, released or moved from. Threads: any.
    [[nodiscard]] bool is_open() const noexcept { return record_ != nullptr; }

    // Closes and waits until nothing of this stream is under way: calls that other fibers have in
    // it end with bad_file_descriptor. The stream is empty from the first moment on: each further
    // call, close() too, throws bad_file_descriptor and names the former peer. As of close(2),
    // bytes that were not received make it a reset; with SO_LINGER a helper thread waits, and this
    // does not. Parks: while a call is under way. Cancel: no. Threads: as recv. Throws:
    // std::system_error.
    void close();

    // The stream keeps the descriptor. The caller may read from it: the ring, which takes in short
    // messages ahead of recv, stops doing so until recv has had eight of them again; what it has
    // taken is pending(), and poll(2) and io::wait_readable do not see it. So ask anew before you
    // read from the descriptor after a recv. It is blocking, and closed on exec; the stream works
    // as well if you make it nonblocking. Parks: only if the stream was last used on another
    // thread, until that lets go of it. Cancel: only then. Threads: any before the first use and
    // after its ring's end; else those inside io::run. Throws: cancelled, std::system_error.
    [[nodiscard]] int native_handle() const;

    // Gives the descriptor up; the caller closes it. No call may be under way. Nothing that the
    // ring has taken in is to be lost: with bytes that are pending() it throws
    // device_or_resource_busy, and they can be received; a reset that no recv has reported yet is
    // thrown once. The descriptor is blocking, and closed on exec. Parks, Cancel, Threads, Throws:
    // as native_handle.
    [[nodiscard]] int release();

    // Bytes that the stream has received already: recv gives them without waiting.
    // Parks, Cancel, Threads, Throws: as native_handle.
    [[nodiscard]] std::size_t pending() const;

private:
    friend class tcp_listener;
    explicit tcp_stream(detail::connection* record) noexcept : record_(record) {}

    [[nodiscard]] detail::connection& open(const char* call) const;

    detail::connection* record_;                    // null: closed, released or moved from
    std::unique_ptr<const endpoint> former_peer_{}; // of a closed or released one, for messages
};

} // namespace creel::io
