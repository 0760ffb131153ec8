#pragma once

// TCP streams and listeners. Errors are std::system_errors that name the call.
//
// A stream of short messages gets a multishot receive, as creel's streams do: after eight single
// receives in a row of at most 1 KiB, which leave nothing in the socket, it stays with the kernel,
// and takes a buffer of the pool for each message. It ends when a message fills a buffer, or when
// the stream holds four buffers that nothing has taken. Other receives go straight into the
// caller's buffer; the kernel polls first if the last one left no data in the socket. Unlike creel,
// it makes no trial whether the kernel misses a hang-up right behind a message (liburing issue
// 1549), and does not copy what it holds when few buffers are left.

#include "operation.hpp"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include <netinet/in.h>
#include <sys/socket.h>

namespace same_job::coroutine {

class socket : completion {
public:
    explicit socket(int fd) noexcept : completion{&completed}, fd_(fd) {}
    socket(const socket&) = delete;
    socket& operator=(const socket&) = delete;

    class receive;
    class transmit;

    [[nodiscard]] int fd() const noexcept { return fd_; }

    // Closes and frees it, when the kernel has let go of it.
    struct closer {
        void operator()(socket* s) const noexcept { s->close(); }
    };

private:
    static constexpr unsigned operations_before_table = 64;
    static constexpr std::size_t longest_short = buffer_pool::buffer_bytes / 2;
    static constexpr unsigned short_before_multishot = 8;
    static constexpr unsigned most_held = 4;
    static constexpr unsigned no_buffer = ~0U;

    ~socket() = default;
    void close() noexcept;
    void finish() noexcept;
    void enter_table();
    // The descriptor or slot of an entry, and its flag.
    void name_file(io_uring_sqe& e) const noexcept {
        e.fd = slot_ >= 0 ? slot_ : fd_;
        if (slot_ >= 0)
            e.flags |= IOSQE_FIXED_FILE;
    }
    void count_operation() {
        if (++operations_ == operations_before_table)
            enter_table();
    }
    void learn(std::size_t received) noexcept {
        short_ones_ = received != 0 && received <= longest_short ? short_ones_ + 1 : 0;
    }

    void start_multishot();
    void stop_multishot();
    void hold(unsigned id, std::size_t size, std::size_t taken) noexcept;
    std::size_t take_held(std::span<std::byte> buffer) noexcept;
    static void completed(completion& c, int result, unsigned flags);
    void arrived(int result, unsigned flags);

    int fd_;
    int slot_ = -1;
    unsigned operations_ = 0;
    unsigned short_ones_ = 0; // single receives in a row
    bool holds_data_ = false; // the last single receive left data in the socket
    bool multishot_ = false;  // with the kernel
    bool stopping_ = false;   // its cancel is
    bool closing_ = false;
    bool ended_ = false;          // the multishot receive has told the end
    int end_ = 0;                 // 0 or a negative error number
    receive* receiver_ = nullptr; // waits for the multishot receive
    unsigned first_held_ = no_buffer;
    unsigned last_held_ = no_buffer;
    unsigned held_ = 0;
};

class socket::receive : completion, cancel_entry {
public:
    receive(socket& of, std::span<std::byte> buffer) noexcept
        : completion{&completed}, cancel_entry(&cancel_this), of_(of), buffer_(buffer) {}
    receive(const receive&) = delete;
    receive& operator=(const receive&) = delete;

    [[nodiscard]] bool await_ready() const noexcept { return false; }
    template <task_promise Promise>
    bool await_suspend(std::coroutine_handle<Promise> waiting) {
        return begin(waiting, *waiting.promise().scope);
    }
    std::size_t await_resume() const;

private:
    friend class socket;

    bool begin(std::coroutine_handle<> waiting, cancel_scope& scope);
    void start_single();
    // The multishot receive has this for it. Last act of its caller: it resumes the coroutine.
    void tell(int result);
    static void completed(completion& c, int result, unsigned flags);
    static void cancel_this(cancel_entry& e) noexcept;

    socket& of_;
    std::span<std::byte> buffer_;
    std::coroutine_handle<> waiting_ = nullptr;
    int result_ = 0;
    bool under_way_ = false; // a single receive
    bool cancelling_ = false;
};

class socket::transmit : public operation {
public:
    transmit(socket& to, std::span<const std::byte> bytes) noexcept : to_(to), bytes_(bytes) {}

    template <task_promise Promise>
    void await_suspend(std::coroutine_handle<Promise> waiting) {
        scope_ = waiting.promise().scope;
        to_.count_operation();
        io_uring_sqe& e = begin(waiting, *scope_);
        // The kernel sends on after a part (MSG_WAITALL), so there is one completion.
        io_uring_prep_send(&e, to_.fd_, bytes_.data(), bytes_.size(), MSG_WAITALL | MSG_NOSIGNAL);
        to_.name_file(e);
    }
    void await_resume() const {
        if (static_cast<std::size_t>(result("send")) == bytes_.size())
            return;
        scope_->check(); // a cancel gives the number of bytes that were sent
        throw std::system_error{EPIPE, std::system_category(), "send"};
    }

private:
    socket& to_;
    std::span<const std::byte> bytes_;
    cancel_scope* scope_ = nullptr;
};

class stream {
public:
    stream() = default;
    explicit stream(int fd) : socket_(new socket(fd)) {}

    class connect_operation;
    // co_await: a stream to this port of 127.0.0.1.
    [[nodiscard]] static connect_operation connect(std::uint16_t port);

    [[nodiscard]] explicit operator bool() const noexcept { return socket_ != nullptr; }

    // co_await: the number of bytes; 0 at the end.
    [[nodiscard]] socket::receive recv(std::span<std::byte> buffer) const noexcept {
        return {*socket_, buffer};
    }
    // co_await.
    [[nodiscard]] socket::transmit send_all(std::span<const std::byte> bytes) const noexcept {
        return {*socket_, bytes};
    }

private:
    std::unique_ptr<socket, socket::closer> socket_{};
};

class stream::connect_operation : public operation {
public:
    explicit connect_operation(std::uint16_t port);
    ~connect_operation();

    template <task_promise Promise>
    void await_suspend(std::coroutine_handle<Promise> waiting) {
        io_uring_sqe& e = begin(waiting, *waiting.promise().scope);
        io_uring_prep_connect(&e, fd_, reinterpret_cast<const sockaddr*>(&to_), sizeof to_);
    }
    [[nodiscard]] stream await_resume();

private:
    sockaddr_in to_{};
    int fd_;
};

// Listens on 127.0.0.1. What it accepts has TCP_NODELAY.
class listener {
public:
    listener();
    listener(const listener&) = delete;
    listener& operator=(const listener&) = delete;
    ~listener();

    [[nodiscard]] std::uint16_t port() const;

    // co_await listener.accept()
    class accept_operation : public operation {
    public:
        explicit accept_operation(int fd) noexcept : fd_(fd) {}
        template <task_promise Promise>
        void await_suspend(std::coroutine_handle<Promise> waiting) {
            io_uring_sqe& e = begin(waiting, *waiting.promise().scope);
            io_uring_prep_accept(&e, fd_, nullptr, nullptr, SOCK_CLOEXEC);
        }
        [[nodiscard]] stream await_resume() const { return stream{result("accept")}; }

    private:
        int fd_;
    };
    [[nodiscard]] accept_operation accept() const noexcept { return accept_operation{fd_}; }

private:
    int fd_;
};

} // namespace same_job::coroutine
