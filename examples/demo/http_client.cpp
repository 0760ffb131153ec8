#include "http_client.hpp"

#include "beast.hpp"

#include <creel/io/error.hpp>

#include <span>
#include <system_error>
#include <utility>

namespace demo {

namespace http = boost::beast::http;

http_client::http_client(const creel::io::endpoint& server)
    : stream_(creel::io::tcp_stream::connect(server)), host_(server.to_string()) {
    stream_.set_no_delay(true);
}

http_response http_client::get(std::string_view target) {
    std::string request;
    request.append("GET ").append(target).append(" HTTP/1.1\r\nHost: ").append(host_);
    request.append("\r\n\r\n");
    stream_.send_all(std::as_bytes(std::span{request}));

    http::response_parser<http::string_body> parser;
    parser.eager(true);
    parser.body_limit(std::uint64_t{64} * 1024);
    while (!parser.is_done()) {
        if (input_.full())
            throw std::runtime_error{"a line of the reply of " + host_ + " is too long"};
        if (!input_.fill(stream_))
            throw creel::io::unexpected_eof{"reply of " + host_, input_.bytes().size()};
        boost::beast::error_code error;
        auto bytes = input_.bytes();
        input_.consume(parser.put({bytes.data(), bytes.size()}, error));
        if (error && error != http::error::need_more)
            throw std::runtime_error{"reply of " + host_ + ": " + error.message()};
    }
    keeps_alive_ = parser.keep_alive();
    auto reply = parser.release();
    return {.status = static_cast<int>(reply.result_int()), .body = std::move(reply.body())};
}

} // namespace demo
