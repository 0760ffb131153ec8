// fanout PORT PORT PORT: asks three backends for each request, and answers with what has come
// within 50 ms.
#include "../coroutine/serve.hpp"
#include "../wire.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace {

using namespace same_job;
using namespace same_job::coroutine;

// The next line, valid until the next call. Empty at the end, and for a line that is too long.
task<std::optional<std::string_view>> next_line(const stream& peer, line_reader& lines) {
    for (;;) {
        if (const auto line = lines.next())
            co_return line;
        if (lines.too_long())
            co_return std::nullopt;
        const std::size_t count = co_await peer.recv(lines.room());
        if (count == 0)
            co_return std::nullopt;
        lines.received(count);
    }
}

// A client's side of one backend.
class backend {
public:
    explicit backend(std::uint16_t port) : port_(port) {}

    // Sets the value for this ID, valid until the next call, if the backend keeps to the protocol.
    // A connection is kept only if it has given a value: in every other case, a cancel too, it
    // closes here.
    task<> ask(std::string_view id, std::string_view& value) {
        auto used = std::move(kept_);
        if (!used)
            used = std::make_unique<connection>(co_await stream::connect(port_));
        const auto request = std::string{id} + '\n';
        co_await used->peer.send_all(std::as_bytes(std::span{request}));
        const auto line = co_await next_line(used->peer, used->lines);
        const auto answer = line ? split(*line) : std::nullopt;
        if (!answer || answer->first != id)
            co_return;
        kept_ = std::move(used);
        value = answer->second;
    }

private:
    struct connection {
        explicit connection(stream s) : peer(std::move(s)) {}
        stream peer;
        line_reader lines;
    };

    std::uint16_t port_;
    std::unique_ptr<connection> kept_{};
};

task<> serve_client(stream client, const std::array<std::uint16_t, backends>& ports) {
    std::array all{backend{ports[0]}, backend{ports[1]}, backend{ports[2]}};
    line_reader lines;
    std::string reply;
    while (const auto id = co_await next_line(client, lines)) {
        if (!number(*id))
            co_return;
        std::array<std::string_view, backends> values{"-", "-", "-"};
        try {
            co_await timeout(fanout_deadline,
                             when_all(errors::stay_alone, all[0].ask(*id, values[0]),
                                      all[1].ask(*id, values[1]), all[2].ask(*id, values[2])));
        } catch (const timed_out&) { // the values that have come are there
        }
        reply.assign(*id);
        for (const auto value : values)
            reply.append(1, ' ').append(value);
        reply += '\n';
        co_await client.send_all(std::as_bytes(std::span{reply}));
    }
}

task<> listen_and_serve(std::array<std::uint16_t, backends> ports) {
    const listener clients;
    std::printf("%d\n", clients.port());
    std::fflush(stdout);
    co_await serve(clients, [&](stream client) { return serve_client(std::move(client), ports); });
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 4)
        return 2;
    const auto port = [&](int i) { return static_cast<std::uint16_t>(number(argv[i]).value()); };
    run(listen_and_serve({port(1), port(2), port(3)}));
}
