// fanout PORT PORT PORT: asks three backends for each request, at the same time, and answers with
// what has come within 50 ms.
#include "asio.hpp"

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

using namespace same_job;

namespace {

using addresses = std::array<tcp::endpoint, backends>;

// A client's side of one backend.
class backend {
public:
    // Receives the value, unless the backend does not keep to the protocol, or give_up() comes.
    awaitable<> ask(const tcp::endpoint& address, std::string_view id, const std::string& request) {
        value_.reset();
        given_up_ = false;
        if (!link_) {
            link_ = std::make_unique<link>(co_await asio::this_coro::executor);
            const auto [refused] = co_await link_->peer.async_connect(address, nothrow);
            if (refused)
                co_return;
            link_->peer.set_option(tcp::no_delay{true});
        }
        const auto [unsent, sent] =
            co_await asio::async_write(link_->peer, asio::buffer(request), nothrow);
        if (unsent)
            co_return;
        auto line = link_->lines.next();
        while (!line && !link_->lines.too_long()) {
            const auto [ended, count] = co_await receive(link_->peer, link_->lines);
            if (ended)
                co_return;
            link_->lines.received(count);
            line = link_->lines.next();
        }
        if (const auto answer = line ? split(*line) : std::nullopt; answer && answer->first == id)
            value_ = answer->second;
    }

    void give_up() {
        given_up_ = !value_;
        if (given_up_ && link_)
            shut_down(link_->peer);
    }

    // What ask() has received, or "-"; valid until the next ask(). Only a connection that has given
    // a value is kept.
    std::string_view value() {
        if (!value_ || given_up_) { // an answer may have been in the socket already
            link_.reset();
            return "-";
        }
        return *value_;
    }

private:
    struct link {
        explicit link(const executor& where) : peer(where) {}
        tcp_stream peer;
        line_reader lines;
    };

    std::unique_ptr<link> link_{};
    std::optional<std::string_view> value_{};
    bool given_up_ = false;
};

awaitable<> serve(tcp_stream client, const addresses& where) {
    std::array<backend, backends> all;
    task_group asking{client.get_executor()};
    line_reader lines;
    std::string request;
    std::string reply;
    while (!lines.too_long()) {
        const auto [ended, count] = co_await receive(client, lines);
        if (ended)
            co_return;
        lines.received(count);
        while (const auto id = lines.next()) {
            if (!number(*id))
                co_return;
            const auto deadline = steady_clock::now() + fanout_deadline;
            request.assign(*id).append(1, '\n');
            for (std::size_t i = 0; i < backends; ++i)
                asking.spawn(all[i].ask(where[i], *id, request));
            co_await asking.join(deadline);
            if (asking.running() > 0) {
                for (auto& one : all)
                    one.give_up();
                co_await asking.join();
            }
            reply.assign(*id);
            for (auto& one : all)
                reply.append(1, ' ').append(one.value());
            reply += '\n';
            const auto [broken, sent] =
                co_await asio::async_write(client, asio::buffer(reply), nothrow);
            if (broken)
                co_return;
        }
    }
}

} // namespace

int main(int argc, char** argv) {
    if (argc != 4)
        return 2;
    const auto backend_of = [&](int i) {
        return tcp::endpoint{asio::ip::address_v4::loopback(),
                             static_cast<std::uint16_t>(number(argv[i]).value())};
    };
    const addresses where{backend_of(1), backend_of(2), backend_of(3)};
    asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE}; // one thread: no locks
    auto listener = listen(context);
    const auto start = [&](tcp_stream client) { return serve(std::move(client), where); };
    asio::co_spawn(context, accept_all(listener, start), asio::detached);
    context.run();
}
