// A connected byte stream: TCP, or a Unix stream socket.
//
//     auto peer = io::tcp_stream::connect(io::endpoint{"127.0.0.1", 8080});
//     peer.send_all(request);
//     while (auto n = peer.recv(buffer))    // 0: the peer has sent its last byte
//         use(std::span{buffer}.first(n));
//
// One fiber may receive and one may send at the same time. Two fibers that both receive, or both
// send, are a bug that is caught. Buffers may be on the stack: no call returns before the kernel is
// done with them, even if it is cancelled. `cancelled` means that no byte has moved. A peer that
// breaks off is an error (std::system_error that names it), never a signal. A deadline comes from a
// scope around the call.
//
// A stream that carries short messages (eight receives in a row of at most 1 KiB, which leave
// nothing in the socket) leaves its receive with the kernel, which puts the messages into buffers
// of the ring. So a stream holds a few messages that no recv has asked for yet, or about 512 KiB at
// most. This shows only in native_handle, release and pending().
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
    // Parks: until the peer has answered. Cancel: yes, and then there is no connection.
    // Threads: those inside io::run. Throws: cancelled, std::system_error that names `to`.
    [[nodiscard]] static tcp_stream connect(const endpoint& to, const stream_options& options = {});

    // Takes ownership of a connected stream socket, blocking or not, even if its peer has broken
    // off. If it throws, the socket is closed, unless it is 0, 1 or 2, which are never closed.
    // Threads: any.
    // Throws: std::system_error that says what kind of descriptor it is; std::bad_alloc. Cost: four
    // system calls.
    [[nodiscard]] static tcp_stream adopt(int fd, const stream_options& options = {});

    // Closes without waiting, even while an exception unwinds: the peer reads an end of file. (For
    // a reset call set_linger(0s) before.) Calls of other fibers on the stream end with
    // bad_file_descriptor. The descriptor is closed after the last of them; at once if there is
    // none. Copies of the descriptor (dup(2), a child process) stay open. But if a TCP stream has
    // pending() bytes, the close of its last copy is then a reset. Threads: any.
    ~tcp_stream();
    tcp_stream(tcp_stream&& other) noexcept
        : record_(std::exchange(other.record_, nullptr)),
          former_peer_(std::move(other.former_peer_)) {}
    tcp_stream& operator=(tcp_stream&& other) noexcept;

    // Receives the bytes that are there, at least one. Returns 0 after the peer's last byte, and at
    // once for an empty buffer. Never returns 0 for a broken connection: that is an error here,
    // even if a send was told of it first.
    // Parks: until there is a byte, or the end. Cancel: yes, no byte is lost. Threads: those inside
    // io::run, one at a time; no other fiber may receive. Throws: cancelled, std::system_error.
    [[nodiscard]] std::size_t recv(std::span<std::byte> buffer);

    // Receives until the buffer is full.
    // Parks: until it is full. Cancel: yes; partial_cancelled tells how many bytes are in the
    // buffer. Threads: as recv. Throws: partial_cancelled, unexpected_eof, std::system_error.
    void recv_exact(std::span<std::byte> buffer);

    // Hands bytes to the kernel, as many as it takes, at least one; returns their number. An empty
    // buffer sends nothing.
    // Parks: until the kernel has room. Cancel: yes, and then nothing was sent. Threads: those
    // inside io::run, one at a time; no other fiber may send. Throws: cancelled, std::system_error.
    [[nodiscard]] std::size_t send(std::span<const std::byte> bytes);

    // Hands all bytes to the kernel.
    // Parks: until it has them. Cancel: yes; partial_cancelled tells how many bytes were handed
    // over. Threads: as send. Throws: partial_cancelled, std::system_error.
    void send_all(std::span<const std::byte> bytes);

    // Tells the peer that no more bytes will come; its recv returns 0. This side still receives.
    // Parks: no. Threads: as send. Throws: std::system_error.
    void shutdown_send();

    // Options: <creel/io/stream_options.hpp> says what they mean. The options that only TCP has,
    // keep-alive and the user timeout, throw operation_not_supported on a Unix stream; negative
    // times throw invalid_argument. The getters ask the kernel, and so return the value that it
    // uses.
    // Parks: no. Throws: std::system_error that names option and peer. Cost: system calls.

    // TCP_NODELAY, on from the beginning. A Unix stream never delays, and accepts both values.
    void set_no_delay(bool on);
    [[nodiscard]] bool no_delay() const;
    void set_keep_alive(const keep_alive_options& value);
    [[nodiscard]] keep_alive_options keep_alive() const;
    // TCP_USER_TIMEOUT: how long sent bytes may stay without an acknowledgement, or without room at
    // the peer, until the connection has failed (timed_out); also how long keep-alive goes on. In
    // milliseconds, rounded up. 0: the system's limit, about a quarter of an hour.
    void set_user_timeout(saturating_duration limit);
    [[nodiscard]] duration user_timeout() const;
    // SO_LINGER: the fate of bytes that the peer has not acknowledged when the stream is closed.
    // Off (the default): the kernel goes on sending them, and no call tells how that ends.
    // 0: they are dropped, and the peer gets a reset. Use it for a transfer that failed half-way,
    // which the peer would otherwise take for a whole one.
    // A longer time, in seconds, rounded up: close(2) waits until they have arrived, at most for
    // this time; then the kernel goes on as if it were off. A helper thread waits: neither close()
    // nor the destructor does. On a Unix stream the option does nothing.
    void set_linger(std::optional<saturating_duration> limit);
    [[nodiscard]] std::optional<duration> linger() const;
    // SO_RCVBUF, SO_SNDBUF. Linux cuts the value to net.core.rmem_max and wmem_max, doubles it for
    // its own bookkeeping (the getter shows that), and no longer adapts it by itself.
    void set_receive_buffer_bytes(std::size_t value);
    [[nodiscard]] std::size_t receive_buffer_bytes() const;
    void set_send_buffer_bytes(std::size_t value);
    [[nodiscard]] std::size_t send_buffer_bytes() const;

    // The addresses that the kernel knows. It knows the peer's address even after the peer broke
    // off.
    // Parks: no. Throws: std::system_error.
    [[nodiscard]] endpoint local_endpoint() const;
    [[nodiscard]] endpoint remote_endpoint() const;

    // False once it was closed, released or moved from. Threads: any.
    [[nodiscard]] bool is_open() const noexcept { return record_ != nullptr; }

    // Closes, and waits until nothing of this stream is under way: calls of other fibers on it end
    // with bad_file_descriptor. The stream is empty at once: each further call, including close(),
    // throws bad_file_descriptor and names the former peer. As with close(2), the peer gets a reset
    // if there are bytes that were not received. With SO_LINGER a helper thread waits, and not this
    // call.
    // Parks: while a call is under way. Cancel: no. Threads: as recv. Throws: std::system_error.
    void close();

    // The stream keeps the descriptor. The caller may read from it: the ring stops receiving short
    // messages ahead of recv, until recv has had eight of them again. Bytes that the ring has
    // received already are pending(); poll(2) and io::wait_readable do not see them. So call this
    // again before you read from the descriptor after a recv. The descriptor is blocking, and
    // closed on exec, unless it was adopted otherwise. The stream also works if you make it
    // nonblocking.
    // Parks: only if the stream was last used on another thread, until that thread lets go of it.
    // Cancel: only then. Threads: any before the first use and after its ring's end; else those
    // inside io::run. Throws: cancelled, std::system_error.
    [[nodiscard]] int native_handle() const;

    // Gives the descriptor up; the caller closes it. No call may be under way. Nothing that the
    // ring has received is lost: with pending() bytes it throws device_or_resource_busy, and recv
    // still gives them; it throws a reset that no recv has reported yet, once. The descriptor is
    // blocking, and closed on exec, unless it was adopted otherwise.
    // Parks, Cancel, Threads, Throws: as native_handle.
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
