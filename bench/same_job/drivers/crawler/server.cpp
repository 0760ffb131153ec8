#include "server.hpp"

#include "../expect.hpp"

#include <array>
#include <system_error>

namespace creel::bench::same_job::crawler {

std::vector<std::string> arguments(const io::tcp_listener& listener, unsigned tasks,
                                   unsigned rate) {
    return {std::to_string(listener.local_endpoint().port()), std::to_string(tasks),
            std::to_string(rate)};
}

void accept_all(nursery& connections, io::tcp_listener& listener,
                const std::function<void(io::tcp_stream&)>& serve) {
    connections.spawn([&connections, &listener, serve] {
        for (;;)
            connections.spawn([serve, peer = listener.accept()]() mutable {
                peer.set_linger(0s); // a close is a reset: the ports of thousands would stay in use
                try {
                    serve(peer);
                } catch (const std::system_error&) { // the program may break it off at any time
                }
            });
    });
}

std::optional<std::uint64_t> next_request(io::tcp_stream& peer) {
    constexpr std::string_view method = "GET /";
    constexpr std::string_view end = "\r\n\r\n";
    std::array<char, longest_line> bytes;
    std::size_t size = 0;
    std::string_view text;
    while (!text.ends_with(end)) {
        const auto room = std::span{bytes}.subspan(size);
        const std::size_t count = peer.recv(std::as_writable_bytes(room));
        if (count == 0)
            return std::nullopt;
        size += count;
        text = {bytes.data(), size};
    }
    if (text.starts_with(method) && text.find(end) == size - end.size()) {
        const auto target =
            text.substr(method.size(), text.find(' ', method.size()) - method.size());
        if (const auto page = number(target))
            return page;
    }
    throw std::runtime_error("the program sent this instead of one request: " + std::string{text});
}

} // namespace creel::bench::same_job::crawler
