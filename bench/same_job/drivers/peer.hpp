#pragma once

// The driver's end of a connection.

#include <creel/io/tcp_stream.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace creel::bench::same_job {

inline io::tcp_stream connect(std::uint16_t port, const io::stream_options& options = {}) {
    return io::tcp_stream::connect(io::endpoint::loopback_v4(port), options);
}

inline void send(io::tcp_stream& peer, std::string_view text) {
    peer.send_all(std::as_bytes(std::span{text}));
}

// The next line, valid until the next call. Empty at the end of the connection, and for a line that
// is too long for the reader.
template <class Reader>
std::optional<std::string_view> next_line(io::tcp_stream& peer, Reader& lines) {
    for (;;) {
        if (const auto line = lines.next())
            return line;
        const std::size_t count = lines.too_long() ? 0 : peer.recv(lines.room());
        if (count == 0)
            return std::nullopt;
        lines.received(count);
    }
}

} // namespace creel::bench::same_job
