// The options of a socket as system calls, with units, rounding and ranges.
#pragma once

#include <creel/io/stream_options.hpp>

#include <cstddef>
#include <optional>

namespace creel::io::detail {

// Which option could not be set or read, and why. What the caller makes of it names the socket.
struct [[nodiscard]] option_error {
    const char* option = nullptr; // "SO_RCVBUF"; null: all went well
    int error_number = 0;

    explicit operator bool() const noexcept { return option != nullptr; }
};

// True for TCP, and for MPTCP, which stands in for it.
[[nodiscard]] bool is_tcp(int fd) noexcept;

// What stream_options says of each. Those of TCP give EOPNOTSUPP for other sockets; no_delay, which
// is on by default, does nothing there. Times that are negative give EINVAL.
option_error set_no_delay(int fd, bool on) noexcept;
option_error set_keep_alive(int fd, const keep_alive_options& value) noexcept;
option_error set_user_timeout(int fd, duration value) noexcept;
option_error set_linger(int fd, std::optional<duration> value) noexcept;
option_error set_receive_buffer_bytes(int fd, std::size_t value) noexcept;
option_error set_send_buffer_bytes(int fd, std::size_t value) noexcept;
// All of them; a size of 0, or no keep-alive, leaves what is set.
option_error set_options(int fd, const stream_options& value) noexcept;

option_error get_no_delay(int fd, bool& value) noexcept;
option_error get_keep_alive(int fd, keep_alive_options& value) noexcept;
option_error get_user_timeout(int fd, duration& value) noexcept;
option_error get_linger(int fd, std::optional<duration>& value) noexcept;
option_error get_receive_buffer_bytes(int fd, std::size_t& value) noexcept;
option_error get_send_buffer_bytes(int fd, std::size_t& value) noexcept;

} // namespace creel::io::detail
