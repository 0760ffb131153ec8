// The client's side of a keep-alive HTTP/1.1 connection: one request at a time.
//
//     demo::http_client client{io::endpoint{"127.0.0.1", 8080}};
//     std::string page = client.get("/page?id=7").body;
#pragma once

#include "input_buffer.hpp"

#include <creel/io/endpoint.hpp>
#include <creel/io/tcp_stream.hpp>

#include <string>
#include <string_view>

namespace demo {

struct http_response {
    int status = 0;
    std::string body{};
};

class http_client {
public:
    // Parks: until connected. Cancel: yes. Throws: std::system_error.
    explicit http_client(const creel::io::endpoint& server);

    // After a cancel, or any failure, the connection may be in the middle of a reply: destroy the
    // client then.
    // Parks: until the whole reply has come. Cancel: yes. Throws: std::system_error, also for a
    // reply that is not HTTP; io::unexpected_eof.
    http_response get(std::string_view target);

    // Returns false when the server has announced that it closes after its last reply.
    [[nodiscard]] bool keeps_alive() const noexcept { return keeps_alive_; }

private:
    creel::io::tcp_stream stream_;
    std::string host_;
    input_buffer input_;
    bool keeps_alive_ = true;
};

} // namespace demo
