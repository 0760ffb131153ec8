#pragma once

// What the programs of all styles share: the limits of the jobs, and functions on bytes in memory.
// Nothing here waits, so nothing here depends on the style.

#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

namespace same_job {

using namespace std::chrono_literals;

inline constexpr std::size_t echo_bytes = 16384;    // the buffer of an echo connection
inline constexpr std::size_t longest_line = 1024;   // with its '\n'
inline constexpr std::size_t longest_batch = 16384; // bytes that a writer gathers for one send
inline constexpr std::size_t queue_places = 64;     // of each queue
inline constexpr std::size_t workers = 4;           // of producer_consumer
inline constexpr std::size_t backends = 3;          // of fanout
inline constexpr auto fanout_deadline = 50ms;
inline constexpr auto fetch_deadline = 1s;
inline constexpr unsigned fetch_tries = 5;
inline constexpr auto first_backoff = 10ms; // doubles with each try
inline constexpr unsigned rate_burst = 16;  // requests of the crawler that may begin at once
inline constexpr std::size_t longest_page = 65536;
inline constexpr auto chat_grace = 1s;

// The work on an item of producer_consumer (the finalizer of MurmurHash3).
constexpr std::uint64_t mixed(std::uint64_t x) noexcept {
    x = (x ^ (x >> 33)) * 0xff51afd7ed558ccdULL;
    x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53ULL;
    return x ^ (x >> 33);
}

// The whole text as a decimal number.
inline std::optional<std::uint64_t> number(std::string_view text) noexcept {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size())
        return std::nullopt;
    return value;
}

// "A B": two words with one space between them; the second may hold spaces.
struct two_words {
    std::string_view first;
    std::string_view second;
};
inline std::optional<two_words> split(std::string_view line) noexcept {
    const auto space = line.find(' ');
    if (space == 0 || space == std::string_view::npos || space + 1 == line.size())
        return std::nullopt;
    return two_words{line.substr(0, space), line.substr(space + 1)};
}

// Cuts a stream of bytes into lines. The caller receives into room(), tells how many bytes came,
// and takes lines until there is none:
//
//     line_reader lines;
//     while (auto n = peer.recv(lines.room())) {
//         lines.received(n);
//         while (auto line = lines.next())
//             handle(*line);
//         if (lines.too_long()) break;
//     }
//
// A line has at most `Bytes`, with its '\n'.
template <std::size_t Bytes>
class basic_line_reader {
public:
    // Never empty, unless too_long().
    [[nodiscard]] std::span<std::byte> room() noexcept {
        if (begin_ > 0) {
            std::memmove(bytes_.data(), bytes_.data() + begin_, end_ - begin_);
            end_ -= begin_;
            begin_ = 0;
        }
        return std::as_writable_bytes(std::span{bytes_}.subspan(end_));
    }
    void received(std::size_t count) noexcept { end_ += count; }

    // The next line without its '\n', valid until the next call of room().
    [[nodiscard]] std::optional<std::string_view> next() noexcept {
        const char* const from = bytes_.data() + begin_;
        const auto* const newline =
            static_cast<const char*>(std::memchr(from, '\n', end_ - begin_));
        if (newline == nullptr)
            return std::nullopt;
        begin_ = static_cast<std::size_t>(newline + 1 - bytes_.data());
        return std::string_view{from, static_cast<std::size_t>(newline - from)};
    }
    // After next() gave none: the line that has begun fills the buffer.
    [[nodiscard]] bool too_long() const noexcept { return pending() == Bytes; }
    // The bytes of that line that have come.
    [[nodiscard]] std::size_t pending() const noexcept { return end_ - begin_; }

private:
    std::array<char, Bytes> bytes_; // not initialised: a connection would pay for it
    std::size_t begin_ = 0;
    std::size_t end_ = 0;
};
using line_reader = basic_line_reader<longest_line>;

// The head of an HTTP/1.1 response with a Content-Length.
struct page_head {
    unsigned status = 0;
    std::size_t head_bytes = 0; // with the empty line
    std::size_t body_bytes = 0;
    [[nodiscard]] std::size_t total_bytes() const noexcept { return head_bytes + body_bytes; }
};
enum class head_state : unsigned char { incomplete, complete, malformed };

inline head_state parse(std::string_view received, page_head& head) noexcept {
    const auto end = received.find("\r\n\r\n");
    if (end == std::string_view::npos)
        return received.size() < longest_line ? head_state::incomplete : head_state::malformed;
    const auto text = received.substr(0, end + 2);
    constexpr std::string_view version = "HTTP/1.1 ";
    constexpr std::string_view length = "\r\nContent-Length: ";
    const auto field = text.find(length);
    if (!text.starts_with(version) || field == std::string_view::npos)
        return head_state::malformed;
    const auto status = number(text.substr(version.size(), 3));
    const auto value = text.substr(field + length.size());
    const auto bytes = number(value.substr(0, value.find('\r')));
    if (!status || !bytes || *bytes > longest_page)
        return head_state::malformed;
    head = {static_cast<unsigned>(*status), end + 4, static_cast<std::size_t>(*bytes)};
    return head_state::complete;
}

inline void write_request(std::string& request, std::uint64_t page) {
    request = "GET /" + std::to_string(page) + " HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
}

// Calls found(page) for each link in the body: lines of the form "/NUMBER".
template <class Found>
void for_each_link(std::string_view body, Found&& found) {
    while (!body.empty()) {
        const auto end = body.find('\n');
        const auto line = body.substr(0, end);
        if (line.starts_with('/'))
            if (const auto page = number(line.substr(1)))
                found(*page);
        body.remove_prefix(end == std::string_view::npos ? body.size() : end + 1);
    }
}

} // namespace same_job
