#include "http_connection.hpp"

#include "beast.hpp"
#include "input_buffer.hpp"

#include <creel/fibers/cancel_scope.hpp>

#include <algorithm>
#include <array>
#include <ctime>
#include <exception>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

namespace demo {

namespace {

namespace http = boost::beast::http;
using parser_type = http::request_parser<http::string_body>;
using namespace std::chrono_literals;

// The request is refused with this status, and then the connection ends, because the begin of the
// next request cannot be known.
struct refused {
    int status;
};

int status_of(const boost::beast::error_code& error) {
    if (error == http::error::header_limit)
        return 431;
    if (error == http::error::body_limit)
        return 413;
    if (error == http::error::bad_version)
        return 505;
    return 400;
}

std::string_view text_of(const input_buffer& input) {
    auto bytes = input.bytes();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Beast waits for ever for the \r\n of a line that ends with \n alone, so such a line is refused.
void check_line_ends(std::string_view text) {
    std::size_t header_end = text.starts_with("\r\n") ? 0 : text.find("\r\n\r\n");
    std::string_view lines = text.substr(0, header_end);
    for (std::size_t at = lines.find('\n'); at != lines.npos; at = lines.find('\n', at + 1))
        if (at > 0 && lines[at - 1] != '\r')
            throw refused{400};
}

// Gives the parser the input that has come. Throws refused.
void parse_some(parser_type& parser, input_buffer& input, std::uint32_t& header_room) {
    if (!parser.is_header_done())
        check_line_ends(text_of(input));
    boost::beast::error_code error;
    auto bytes = input.bytes();
    std::size_t used = parser.put({bytes.data(), bytes.size()}, error);
    input.consume(used);
    if (error && error != http::error::need_more)
        throw refused{status_of(error)};
    if (parser.is_header_done())
        return;
    // Beast 1.81 compares its header_limit only with the bytes that it has not parsed yet. A peer
    // whose pieces each end one byte into a field could send fields for ever, so the sum is kept
    // here.
    if (used > header_room)
        throw refused{431};
    header_room -= static_cast<std::uint32_t>(used);
}

// Checks only that the characters are those of RFC 3986's host and port.
bool is_host(std::string_view text) {
    return text.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                                  "-._~!$&'()*+,;=%:[]") == text.npos;
}

// Refuses what Beast lets pass against RFC 9112, sections 3.2 and 6.1: in a request of unclear
// length another request can be smuggled.
void check_header(const parser_type& parser) {
    const auto& request = parser.get();
    std::size_t encodings = request.count(http::field::transfer_encoding);
    if (encodings > 0 && (!parser.chunked() || request.version() < 11))
        throw refused{400};
    if (encodings > 1 ||
        (encodings == 1 &&
         !boost::beast::iequals(request[http::field::transfer_encoding], "chunked")))
        throw refused{501};
    if (request.method() == http::verb::unknown)
        throw refused{501};
    std::size_t hosts = request.count(http::field::host);
    if (hosts > 1 || (hosts == 0 && request.version() >= 11))
        throw refused{400};
    if (auto host = request[http::field::host]; !is_host({host.data(), host.size()}))
        throw refused{400};
    // A peer that sends an expectation waits for the answer before it sends the body.
    if (request.version() >= 11 && request.count(http::field::expect) > 0 &&
        !boost::beast::iequals(request[http::field::expect], "100-continue"))
        throw refused{417};
}

std::string_view reason_phrase(int status) {
    auto phrase = http::obsolete_reason(http::int_to_status(static_cast<unsigned>(status)));
    return {phrase.data(), phrase.size()};
}

// "Date: ...\r\n", formatted once a second.
std::string_view date_line() {
    static thread_local std::time_t written = -1;
    static thread_local std::array<char, 64> line;
    static thread_local std::size_t length = 0;
    if (std::time_t now = std::time(nullptr); now != written) {
        std::tm parts{};
        ::gmtime_r(&now, &parts);
        length = std::strftime(line.data(), line.size(), "Date: %a, %d %b %Y %T GMT\r\n", &parts);
        written = now;
    }
    return {line.data(), length};
}

std::string to_bytes(const http_reply& reply, bool keep_alive, bool with_body) {
    std::string out;
    out.reserve(256 + reply.extra_headers.size() + (with_body ? reply.body.size() : 0));
    out.append("HTTP/1.1 ").append(std::to_string(reply.status)).append(" ");
    out.append(reason_phrase(reply.status)).append("\r\nServer: creel-demo\r\n");
    out.append(date_line()).append("Content-Type: ").append(reply.content_type);
    out.append("\r\nContent-Length: ").append(std::to_string(reply.body.size()));
    // By default HTTP/1.0 closes and HTTP/1.1 does not, so the reply always says it.
    out.append(keep_alive ? "\r\nConnection: keep-alive\r\n" : "\r\nConnection: close\r\n");
    out.append(reply.extra_headers).append("\r\n");
    if (with_body)
        out.append(reply.body);
    return out;
}

// Returns the handler's reply, within its time. Throws refused.
http_reply call(const http_handler& handler, const http_request& request,
                const http_limits& limits) {
    try {
        if (auto reply = creel::move_on_after(limits.answer, [&] { return handler(request); }))
            return std::move(*reply);
        throw refused{503};
    } catch (const std::exception& error) {
        return {.status = 500, .body = std::string{error.what()} + "\n"};
    }
}

class http_connection {
public:
    http_connection(creel::io::tcp_stream& stream, const http_limits& limits)
        : stream_(stream), limits_(limits) {}

    // Returns nothing when the peer has ended the connection or was idle for too long. Throws
    // refused.
    std::optional<http_request> read() {
        if (input_.empty()) {
            auto more = creel::move_on_after(limits_.idle, [&] { return input_.fill(stream_); });
            if (!more.value_or(false))
                return {};
        }
        try {
            return creel::fail_after(limits_.read, [&] { return read_begun(); });
        } catch (const creel::timed_out&) {
            throw refused{408};
        }
    }

    void send(std::string_view text) { stream_.send_all(std::as_bytes(std::span{text})); }

    // True if the request that was last read, or begun, is a HEAD: its reply has no body.
    [[nodiscard]] bool reading_head() const noexcept { return head_; }

    // Ends our side, and reads on for a while: a close with unread bytes would reset the
    // connection, and the peer might lose the last reply. The number of bytes is bounded, because
    // reading them costs time.
    void finish() {
        constexpr std::size_t most = std::size_t{128} * 1024 * 1024;
        stream_.shutdown_send();
        creel::move_on_after(2s, [&] {
            for (std::size_t dropped = 0; dropped < most;) {
                dropped += input_.bytes().size();
                input_.consume(input_.bytes().size());
                if (!input_.fill(stream_))
                    return;
            }
        });
    }

private:
    std::optional<http_request> read_begun() {
        parser_type parser;
        parser.eager(true);
        parser.header_limit(limits_.header_bytes);
        parser.body_limit(limits_.body_bytes);
        std::uint32_t header_room = limits_.header_bytes;
        bool checked = false;
        for (;;) {
            if (!parser.got_some())
                skip_empty_lines();
            if (header_room == limits_.header_bytes) // its first line is still there
                head_ = text_of(input_).starts_with("HEAD ");
            if (!input_.empty())
                parse_some(parser, input_, header_room);
            if (parser.is_header_done() && !std::exchange(checked, true)) {
                check_header(parser);
                if (parser.get().version() >= 11 && parser.get().count(http::field::expect) > 0 &&
                    !parser.is_done())
                    send("HTTP/1.1 100 Continue\r\n\r\n");
            }
            if (parser.is_done())
                return take(parser);
            if (input_.full()) // one line of a chunked body that is longer than the buffer
                throw refused{400};
            if (!input_.fill(stream_))
                return {}; // the peer vanished in the middle of a request
        }
    }

    // Empty lines before a request are ignored (RFC 9112, section 2.2).
    void skip_empty_lines() {
        auto bytes = input_.bytes();
        std::size_t count = 0;
        while (count < bytes.size() &&
               (bytes[count] == std::byte{'\r'} || bytes[count] == std::byte{'\n'}))
            ++count;
        input_.consume(count);
    }

    // The path and query of a target in absolute form, "http://x/stats" (RFC 9112, section 3.2.2).
    static std::string path_in(std::string_view target) {
        for (std::string_view scheme : {"http://", "https://"})
            if (boost::beast::iequals(target.substr(0, scheme.size()), scheme)) {
                target.remove_prefix(
                    std::min(target.find_first_of("/?", scheme.size()), target.size()));
                return (target.starts_with('/') ? "" : "/") + std::string{target};
            }
        return std::string{target};
    }

    static http_request take(parser_type& parser) {
        bool keep_alive = parser.keep_alive();
        auto request = parser.release();
        std::string_view target{request.target().data(), request.target().size()};
        return {.method = std::string{request.method_string()},
                .target = path_in(target),
                .body = std::move(request.body()),
                .keep_alive = keep_alive};
    }

    creel::io::tcp_stream& stream_;
    const http_limits& limits_;
    input_buffer input_;
    bool head_ = false;
};

// Serves the requests of a connection until one of them asks for its end. Returns true if the
// connection must be ended in order.
bool serve_requests(http_connection& connection, const http_handler& handler,
                    reply_counters& replies, const http_limits& limits) {
    for (;;) {
        auto request = connection.read();
        if (!request)
            return false;
        // The request is shielded from here to its reply: a server that drains finishes it. It has
        // deadlines of its own, so that no peer can delay the end of the server.
        bool keep_alive = creel::shield([&] {
            http_reply reply = call(handler, *request, limits);
            bool stay = request->keep_alive && !reply.close;
            std::string bytes = to_bytes(reply, stay, request->method != "HEAD");
            creel::fail_after(limits.send, [&] { connection.send(bytes); });
            ++replies.sent;
            replies.closing += reply.close ? 1 : 0;
            return stay;
        });
        if (!keep_alive)
            return true;
    }
}

} // namespace

void serve_http(creel::io::tcp_stream stream, const http_handler& handler, reply_counters& replies,
                const http_limits& limits) {
    stream.set_no_delay(true);
    http_connection connection{stream, limits};
    int refusal = 0;
    try {
        if (!serve_requests(connection, handler, replies, limits))
            return;
    } catch (const refused& why) {
        refusal = why.status;
    }
    if (refusal != 0) {
        http_reply reply{.status = refusal,
                         .body = std::to_string(refusal) + " " +
                                 std::string{reason_phrase(refusal)} + "\n"};
        // Shielded like each reply.
        creel::shield([&] {
            creel::fail_after(limits.send, [&] {
                connection.send(to_bytes(reply, false, !connection.reading_head()));
            });
        });
    }
    connection.finish();
}

} // namespace demo
