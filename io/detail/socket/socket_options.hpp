// The options of a socket as system calls, with units, rounding and ranges.
#pragma once

#include <creel/io/stream_options.hpp>

#include <cstddef>
#include <optional>

namespace creel::io::detail {

// Which option could not be set or read, and why. The caller adds the name of the socket.
struct [[nodiscard]] option_error {
    const char* option = nullptr; // "SO_RCVBUF"; null: there was no error
    int error_number = 0;

    explicit operator bool() const noexcept { return option != nullptr; }
};

// True for TCP, and for MPTCP, which takes the same options. Threads: any.
[[nodiscard]] bool is_tcp(int fd) noexcept;

// stream_options.hpp describes each option. On a socket that is not TCP the options of TCP give
// EOPNOTSUPP, except no_delay: it is on by default, so there it does nothing. A negative time gives
// EINVAL. Threads: any.
option_error set_no_delay(int fd, bool on) noexcept;
option_error set_keep_alive(int fd, const keep_alive_options& value) noexcept;
option_error set_user_timeout(int fd, duration value) noexcept;
option_error set_linger(int fd, std::optional<duration> value) noexcept;
option_error set_receive_buffer_bytes(int fd, std::size_t value) noexcept;
option_error set_send_buffer_bytes(int fd, std::size_t value) noexcept;
// Sets all of them. A size of 0, or an empty keep_alive, leaves the socket's value as it is.
option_error set_options(int fd, const stream_options& value) noexcept;

option_error get_no_delay(int fd, bool& value) noexcept;
option_error get_keep_alive(int fd, keep_alive_options& value) noexcept;
option_error get_user_timeout(int fd, duration& value) noexcept;
option_error get_linger(int fd, std::optional<duration>& value) noexcept;
option_error get_receive_buffer_bytes(int fd, std::size_t& value) noexcept;
option_error get_send_buffer_bytes(int fd, std::size_t& value) noexcept;

} // namespace creel::io::detail
