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
        auto line = used->lines.next();
        while (!line) {
            const std::size_t n =
                used->lines.too_long() ? 0 : co_await used->peer.recv(used->lines.room());
            if (n == 0)
                co_return;
            used->lines.received(n);
            line = used->lines.next();
        }
        const auto answer = split(*line);
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
    while (const std::size_t n = co_await client.recv(lines.room())) {
        lines.received(n);
        while (const auto id = lines.next()) {
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
        if (lines.too_long())
            co_return;
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
