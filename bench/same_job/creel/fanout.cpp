// fanout PORT PORT PORT: asks three backends for each request, and answers with what has come
// within 50 ms.
#include "../wire.hpp"

#include <creel/creel.hpp>

#include <array>
#include <cstddef>
#include <exception>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace io = creel::io;
using namespace same_job;

namespace {

// The next line, valid until the next call. Empty at the end, and for a line that is too long.
std::optional<std::string_view> next_line(io::tcp_stream& peer, line_reader& lines) {
    for (;;) {
        if (const auto line = lines.next())
            return line;
        if (lines.too_long())
            return std::nullopt;
        const std::size_t count = peer.recv(lines.room());
        if (count == 0)
            return std::nullopt;
        lines.received(count);
    }
}

// A client's side of one backend.
class backend {
public:
    explicit backend(const io::endpoint& where) : where_(where) {} // keeps the reference

    // The value for this ID, valid until the next call. Empty if the backend has not kept to the
    // protocol. A connection is kept only if it has given a value: in every other case, a cancel
    // too, it closes here.
    std::optional<std::string_view> ask(std::string_view id) {
        auto used = std::move(kept_);
        if (!used)
            used = std::make_unique<connection>(io::tcp_stream::connect(where_));
        const auto request = std::string{id} + '\n';
        used->peer.send_all(std::as_bytes(std::span{request}));
        const auto line = next_line(used->peer, used->lines);
        const auto answer = line ? split(*line) : std::nullopt;
        if (!answer || answer->first != id)
            return std::nullopt;
        kept_ = std::move(used);
        return answer->second;
    }

private:
    struct connection {
        explicit connection(io::tcp_stream stream) : peer(std::move(stream)) {}
        io::tcp_stream peer;
        line_reader lines;
    };

    const io::endpoint& where_;
    std::unique_ptr<connection> kept_{};
};

void serve(io::tcp_stream& client, const std::array<io::endpoint, backends>& where) {
    std::array all{backend{where[0]}, backend{where[1]}, backend{where[2]}};
    line_reader lines;
    std::string reply;
    while (const auto id = next_line(client, lines)) {
        if (!number(*id))
            return;
        std::array<std::string_view, backends> values{"-", "-", "-"};
        creel::move_on_after(fanout_deadline, [&] {
            creel::with_nursery([&](creel::nursery& n) {
                for (std::size_t i = 0; i < backends; ++i)
                    n.spawn([&, i] {
                        try {
                            values[i] = all[i].ask(*id).value_or("-");
                        } catch (const std::system_error&) { // it refused or broke the connection
                        }
                    });
            });
        });
        reply.assign(*id);
        for (const auto value : values)
            reply.append(1, ' ').append(value);
        reply += '\n';
        client.send_all(std::as_bytes(std::span{reply}));
    }
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 4)
        return 2;
    const auto backend_of = [&](int i) {
        return io::endpoint::loopback_v4(static_cast<int>(number(argv[i]).value()));
    };
    const std::array where{backend_of(1), backend_of(2), backend_of(3)};
    const auto ignore = creel::report([](const std::exception_ptr&, const creel::task_info&) {});
    io::run([&] {
        io::tcp_listener listener{io::endpoint::loopback_v4(0)};
        std::cout << listener.local_endpoint().port() << std::endl;
        io::serve({.on_error = ignore}, listener,
                  [&](io::tcp_stream& client) { serve(client, where); });
    });
}
