#include <creel/io/detail/socket/socket_options.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <limits>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

namespace creel::io::detail {
namespace {

#ifdef IPPROTO_MPTCP
constexpr int protocol_mptcp = IPPROTO_MPTCP;
#else
constexpr int protocol_mptcp = 262;
#endif

// An option of setsockopt(2): its level, its number, and its name for messages.
struct option_name {
    int level;
    int number;
    const char* text;
};

constexpr option_name no_delay{IPPROTO_TCP, TCP_NODELAY, "TCP_NODELAY"};
constexpr option_name keep_alive_on{SOL_SOCKET, SO_KEEPALIVE, "SO_KEEPALIVE"};
constexpr option_name keep_alive_idle{IPPROTO_TCP, TCP_KEEPIDLE, "TCP_KEEPIDLE"};
constexpr option_name keep_alive_interval{IPPROTO_TCP, TCP_KEEPINTVL, "TCP_KEEPINTVL"};
constexpr option_name keep_alive_count{IPPROTO_TCP, TCP_KEEPCNT, "TCP_KEEPCNT"};
constexpr option_name user_timeout{IPPROTO_TCP, TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT"};
constexpr option_name linger_time{SOL_SOCKET, SO_LINGER, "SO_LINGER"};
constexpr option_name receive_buffer{SOL_SOCKET, SO_RCVBUF, "SO_RCVBUF"};
constexpr option_name send_buffer{SOL_SOCKET, SO_SNDBUF, "SO_SNDBUF"};

constexpr int most = std::numeric_limits<int>::max();
constexpr int most_keep_alive_seconds = 32'767; // MAX_TCP_KEEPIDLE in net/tcp.h

template <typename T>
option_error set(int fd, const option_name& option, const T& value) noexcept {
    if (::setsockopt(fd, option.level, option.number, &value, sizeof value) == 0)
        return {};
    return {option.text, errno};
}

template <typename T>
option_error get(int fd, const option_name& option, T& value) noexcept {
    socklen_t length_bytes = sizeof value;
    if (::getsockopt(fd, option.level, option.number, &value, &length_bytes) == 0)
        return {};
    return {option.text, errno};
}

// Whole units, rounded up, so that a limit is never shorter than the caller asked for. It rounds
// the count up and not `d`, because the largest duration plus a unit would overflow.
template <typename Unit>
int rounded_up(duration d, int at_most) noexcept {
    auto whole = std::chrono::duration_cast<Unit>(d);
    if (duration{whole} < d)
        ++whole;
    return static_cast<int>(std::min<duration::rep>(whole.count(), at_most));
}

option_error set_bytes(int fd, const option_name& option, std::size_t value) noexcept {
    return set(fd, option, static_cast<int>(std::min<std::size_t>(value, most)));
}

option_error get_bytes(int fd, const option_name& option, std::size_t& value) noexcept {
    int bytes = 0;
    const option_error error = get(fd, option, bytes);
    value = static_cast<std::size_t>(bytes);
    return error;
}

option_error set_seconds(int fd, const option_name& option, duration value) noexcept {
    if (value == duration{})
        return {};
    return set(fd, option, rounded_up<std::chrono::seconds>(value, most_keep_alive_seconds));
}

} // namespace

bool is_tcp(int fd) noexcept {
    int protocol = 0;
    return !get(fd, {SOL_SOCKET, SO_PROTOCOL, "SO_PROTOCOL"}, protocol) &&
           (protocol == IPPROTO_TCP || protocol == protocol_mptcp);
}

option_error set_no_delay(int fd, bool on) noexcept {
    // TCP, the usual case, costs one system call: is_tcp() asks only after an error.
    const option_error error = set(fd, no_delay, on ? 1 : 0);
    return error && is_tcp(fd) ? error : option_error{};
}

option_error set_keep_alive(int fd, const keep_alive_options& value) noexcept {
    if (!is_tcp(fd)) // the kernel would accept SO_KEEPALIVE itself, and it would do nothing
        return {keep_alive_on.text, EOPNOTSUPP};
    if (!value.on)
        return set(fd, keep_alive_on, 0);
    if (value.idle < duration{})
        return {keep_alive_idle.text, EINVAL};
    if (value.interval < duration{})
        return {keep_alive_interval.text, EINVAL};
    if (const option_error error = set_seconds(fd, keep_alive_idle, value.idle))
        return error;
    if (const option_error error = set_seconds(fd, keep_alive_interval, value.interval))
        return error;
    if (value.count != 0) {
        if (const option_error error = set(fd, keep_alive_count, value.count))
            return error;
    }
    return set(fd, keep_alive_on, 1);
}

option_error set_user_timeout(int fd, duration value) noexcept {
    if (!is_tcp(fd))
        return {user_timeout.text, EOPNOTSUPP};
    if (value < duration{})
        return {user_timeout.text, EINVAL};
    return set(fd, user_timeout, rounded_up<std::chrono::milliseconds>(value, most));
}

option_error set_linger(int fd, std::optional<duration> value) noexcept {
    ::linger how{};
    if (value) {
        if (*value < duration{})
            return {linger_time.text, EINVAL};
        how.l_onoff = 1;
        how.l_linger = rounded_up<std::chrono::seconds>(*value, most);
    }
    return set(fd, linger_time, how);
}

option_error set_receive_buffer_bytes(int fd, std::size_t value) noexcept {
    return set_bytes(fd, receive_buffer, value);
}

option_error set_send_buffer_bytes(int fd, std::size_t value) noexcept {
    return set_bytes(fd, send_buffer, value);
}

option_error set_options(int fd, const stream_options& value) noexcept {
    if (const option_error error = set_no_delay(fd, value.no_delay)) // also off: it may be on
        return error;
    if (value.receive_buffer_bytes != 0) {
        if (const option_error error = set_receive_buffer_bytes(fd, value.receive_buffer_bytes))
            return error;
    }
    if (value.send_buffer_bytes != 0) {
        if (const option_error error = set_send_buffer_bytes(fd, value.send_buffer_bytes))
            return error;
    }
    return value.keep_alive ? set_keep_alive(fd, *value.keep_alive) : option_error{};
}

option_error get_no_delay(int fd, bool& value) noexcept {
    value = true;
    int on = 0;
    const option_error error = get(fd, no_delay, on);
    if (error)
        return is_tcp(fd) ? error : option_error{};
    value = on != 0;
    return {};
}

option_error get_keep_alive(int fd, keep_alive_options& value) noexcept {
    if (!is_tcp(fd))
        return {keep_alive_on.text, EOPNOTSUPP};
    int on = 0;
    if (const option_error error = get(fd, keep_alive_on, on))
        return error;
    int idle = 0;
    if (const option_error error = get(fd, keep_alive_idle, idle))
        return error;
    int interval = 0;
    if (const option_error error = get(fd, keep_alive_interval, interval))
        return error;
    value.on = on != 0;
    value.idle = std::chrono::seconds{idle};
    value.interval = std::chrono::seconds{interval};
    return get(fd, keep_alive_count, value.count);
}

option_error get_user_timeout(int fd, duration& value) noexcept {
    if (!is_tcp(fd))
        return {user_timeout.text, EOPNOTSUPP};
    int milliseconds = 0;
    const option_error error = get(fd, user_timeout, milliseconds);
    value = std::chrono::milliseconds{milliseconds};
    return error;
}

option_error get_linger(int fd, std::optional<duration>& value) noexcept {
    ::linger how{};
    const option_error error = get(fd, linger_time, how);
    value = how.l_onoff != 0 ? std::optional<duration>{std::chrono::seconds{how.l_linger}}
                             : std::nullopt;
    return error;
}

option_error get_receive_buffer_bytes(int fd, std::size_t& value) noexcept {
    return get_bytes(fd, receive_buffer, value);
}

option_error get_send_buffer_bytes(int fd, std::size_t& value) noexcept {
    return get_bytes(fd, send_buffer, value);
}

} // namespace creel::io::detail
