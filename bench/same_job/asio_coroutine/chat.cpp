// chat: rooms with members; each line of a member goes to all members of its room.
#include "asio.hpp"

#include <csignal>
#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <sys/socket.h>

#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/signal_set.hpp>

using namespace same_job;

namespace {

using text = std::shared_ptr<const std::string>; // all members of a room share it

class client;

struct house {
    std::map<std::string, std::vector<client*>, std::less<>> rooms{}; // none is empty
    std::set<client*> clients{};                                      // in a room or not yet
    bool closing = false;
};

class client {
public:
    client(tcp_stream peer, house& all)
        : all_(all), peer_(std::move(peer)), queue_(peer_.get_executor(), queue_places) {
        all_.clients.insert(this);
    }
    client(const client&) = delete;
    client& operator=(const client&) = delete;
    ~client() {
        leave();
        all_.clients.erase(this);
    }

    awaitable<> attend() {
        task_group sending{peer_.get_executor()};
        line_reader lines;
        while (!all_.closing && !lines.too_long()) {
            const auto [ended, count] = co_await receive(peer_, lines);
            if (ended || all_.closing)
                break;
            lines.received(count);
            while (const auto line = lines.next()) {
                if (place_)
                    tell(*line);
                else if (join(*line))
                    sending.spawn(send());
                else
                    co_return;
            }
        }
        leave();
        // The end waits for a place behind the lines: close() would discard them, see Asio's issue
        // 1236.
        queue_.async_send(asio::error::eof, nullptr, asio::detached);
        co_await sending.join(steady_clock::now() + chat_grace);
        shut_down(peer_);
        co_await sending.join();
    }

    void stop_receiving() {
        error_code ignored; // it may be broken already
        peer_.shutdown(tcp_stream::shutdown_receive, ignored);
    }

private:
    using channel = asio::experimental::channel<executor, void(error_code, text)>;
    using rooms = decltype(house::rooms);

    bool join(std::string_view line) {
        const auto words = split(line);
        if (!words || words->second.find(' ') != std::string_view::npos)
            return false;
        prefix_.append(words->second).append(": ");
        place_ = all_.rooms.try_emplace(std::string{words->first}).first;
        (*place_)->second.push_back(this);
        return true;
    }

    void leave() {
        if (!place_)
            return;
        auto& room = (*place_)->second;
        std::erase(room, this);
        if (room.empty())
            all_.rooms.erase(*place_);
        place_.reset();
    }

    // No wait, so all queues of the room get the lines in one order.
    void tell(std::string_view line) {
        std::string all;
        all.reserve(prefix_.size() + line.size() + 1);
        all.append(prefix_).append(line).append(1, '\n');
        const auto shared = std::make_shared<const std::string>(std::move(all));
        for (client* member : (*place_)->second)
            if (!member->queue_.try_send(error_code{}, shared))
                shut_down(member->peer_);
    }

    awaitable<> send() {
        error_code ended;
        text line;
        const auto take = [&](error_code error, text next) {
            ended = error;
            line = std::move(next);
        };
        std::string batch;
        while (!ended) {
            // An operation passes through the scheduler even if it completes at once.
            if (!queue_.try_receive(take))
                std::tie(ended, line) = co_await queue_.async_receive(nothrow);
            batch.clear();
            while (!ended) {
                batch += *line;
                if (batch.size() + 2 * longest_line > longest_batch || !queue_.try_receive(take))
                    break;
            }
            if (ended && all_.closing)
                batch += "BYE\n";
            const auto [broken, sent] =
                co_await asio::async_write(peer_, asio::buffer(batch), nothrow);
            if (broken)
                break;
        }
        shut_down(peer_); // so attend() ends too
    }

    house& all_;
    tcp_stream peer_;
    std::string prefix_{}; // of its lines
    std::optional<rooms::iterator> place_{};
    channel queue_;
};

awaitable<> serve(tcp_stream peer, house& all) {
    client one{std::move(peer), all};
    co_await one.attend();
}

awaitable<> close_at_signal(asio::signal_set& signals, tcp_listener& listener, house& all) {
    co_await signals.async_wait(nothrow);
    all.closing = true;
    ::shutdown(listener.native_handle(), SHUT_RDWR); // ends accept_all()
    for (client* one : all.clients)
        one->stop_receiving();
}

} // namespace

int main() {
    asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE}; // one thread: no locks
    house all;
    asio::signal_set signals{context, SIGTERM};
    auto listener = listen(context);
    const auto start = [&](tcp_stream peer) { return serve(std::move(peer), all); };
    asio::co_spawn(context, accept_all(listener, start), asio::detached);
    asio::co_spawn(context, close_at_signal(signals, listener, all), asio::detached);
    context.run();
}
