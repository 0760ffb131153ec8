// crawler PORT TASKS RATE: fetches a site, each page once, with TASKS workers.
#include "asio.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_set>

#include <boost/asio/experimental/channel.hpp>

using namespace same_job;

namespace {

template <class... T>
using channel = asio::experimental::channel<executor, void(error_code, T...)>;

// One waits until the next permit is due, and the others wait behind it. A permit counts from when
// it is taken: after a late timer, too, no more than the burst begins at once.
class rate_limit {
public:
    rate_limit(asio::io_context& context, std::uint64_t per_second)
        : interval_((1'000'000'000 + per_second - 1) / per_second),
          due_(context),
          turn_(context, 1) {}

    awaitable<> permit() {
        if (!turn_.try_send(error_code{}))
            co_await turn_.async_send(error_code{}, nothrow);
        for (;;) {
            const auto now = steady_clock::now();
            const auto next = std::max(last_ + interval_, now - (rate_burst - 1) * interval_);
            if (next <= now) {
                last_ = next;
                break;
            }
            due_.expires_at(next);
            co_await due_.async_wait(nothrow);
        }
        turn_.try_receive([](error_code) {});
    }

private:
    std::chrono::nanoseconds interval_;
    steady_clock::time_point last_{};
    timer due_;
    channel<> turn_; // is full while one has its turn
};

struct response {
    unsigned status;
    std::string_view body; // valid until the next request
};

// A worker's side of the site.
class client {
public:
    client(const executor& where, const tcp::endpoint& site) : site_(site), deadline_(where) {}

    // Empty if the connection broke, or the page has not come in time. The connection is kept only
    // after a whole response.
    awaitable<std::optional<response>> get(std::uint64_t page) {
        // The handler may be late, and must not end the next request: so it looks at the time. With
        // || each request would need two more coroutines and their cancellation.
        deadline_.expires_after(fetch_deadline);
        deadline_.async_wait([this](error_code cancelled) {
            if (!cancelled && peer_ && deadline_.expiry() <= steady_clock::now())
                shut_down(*peer_);
        });
        const auto result = co_await exchange(page);
        deadline_.expires_at(steady_clock::time_point::max());
        if (!result)
            peer_.reset();
        co_return result;
    }

    awaitable<> sleep(steady_clock::duration time) {
        deadline_.expires_after(time);
        co_await deadline_.async_wait(nothrow);
    }

private:
    static constexpr std::size_t most_bytes = longest_line + longest_page;

    awaitable<std::optional<response>> exchange(std::uint64_t page) {
        if (!peer_) {
            peer_.emplace(deadline_.get_executor());
            const auto [refused] = co_await peer_->async_connect(site_, nothrow);
            if (refused)
                co_return std::nullopt;
            peer_->set_option(tcp::no_delay{true});
        }
        write_request(request_, page);
        const auto [unsent, sent] =
            co_await asio::async_write(*peer_, asio::buffer(request_), nothrow);
        if (unsent)
            co_return std::nullopt;
        page_head head;
        auto state = head_state::incomplete;
        std::size_t received = 0;
        while (state == head_state::incomplete || received < head.total_bytes()) {
            const auto [ended, count] = co_await peer_->async_read_some(
                asio::buffer(bytes_.get() + received, most_bytes - received), nothrow);
            if (ended)
                co_return std::nullopt;
            received += count;
            if (state == head_state::incomplete)
                state = parse({bytes_.get(), received}, head);
            if (state == head_state::malformed || head.total_bytes() > most_bytes)
                co_return std::nullopt;
        }
        co_return response{head.status, {bytes_.get() + head.head_bytes, head.body_bytes}};
    }

    tcp::endpoint site_;
    timer deadline_;
    std::optional<tcp_stream> peer_{};
    std::string request_{};
    std::unique_ptr<char[]> bytes_ = std::make_unique_for_overwrite<char[]>(most_bytes);
};

class crawl {
public:
    crawl(asio::io_context& context, const tcp::endpoint& site, std::uint64_t rate)
        : site_(site), limit_(context, rate), pages_(context, no_limit) {}

    awaitable<> run(std::uint64_t tasks) {
        const auto here = co_await asio::this_coro::executor;
        add(0);
        task_group working{here};
        for (std::uint64_t i = 0; i < tasks; ++i)
            working.spawn(work());
        co_await working.join();
        std::cout << fetched_ << ' ' << failed_ << ' ' << bytes_ << std::endl;
    }

private:
    // A worker must not wait for a place: then all workers could wait. The site has an end.
    static constexpr std::size_t no_limit = std::numeric_limits<std::size_t>::max();

    awaitable<> work() {
        client site{co_await asio::this_coro::executor, site_};
        error_code ended;
        std::uint64_t page = 0;
        const auto take = [&](error_code error, std::uint64_t next) {
            ended = error;
            page = next;
        };
        for (;;) {
            // An operation passes through the scheduler even if it completes at once.
            if (!pages_.try_receive(take))
                std::tie(ended, page) = co_await pages_.async_receive(nothrow);
            if (ended)
                co_return;
            if (const auto body = co_await fetch(site, page)) {
                ++fetched_;
                bytes_ += body->size();
                for_each_link(*body, [this](std::uint64_t link) { add(link); });
            } else {
                ++failed_;
            }
            if (--unfinished_ == 0)
                pages_.close(); // is empty
        }
    }

    awaitable<std::optional<std::string_view>> fetch(client& site, std::uint64_t page) {
        auto pause = first_backoff;
        for (unsigned tries = 1;; ++tries) {
            co_await limit_.permit();
            const auto reply = co_await site.get(page);
            if (reply && reply->status == 200)
                co_return reply->body;
            if (tries == fetch_tries || (reply && reply->status != 503))
                co_return std::nullopt;
            co_await site.sleep(pause);
            pause *= 2;
        }
    }

    void add(std::uint64_t page) {
        if (known_.insert(page).second) {
            ++unfinished_;
            pages_.try_send(error_code{}, page);
        }
    }

    tcp::endpoint site_;
    rate_limit limit_;
    channel<std::uint64_t> pages_; // known and not fetched
    std::unordered_set<std::uint64_t> known_{};
    std::uint64_t unfinished_ = 0; // known, neither fetched nor failed
    std::uint64_t fetched_ = 0;
    std::uint64_t failed_ = 0;
    std::uint64_t bytes_ = 0;
};

} // namespace

int main(int argc, char** argv) {
    if (argc != 4)
        return 2;
    const auto argument = [&](int i) { return number(argv[i]).value(); };
    const tcp::endpoint site{asio::ip::address_v4::loopback(),
                             static_cast<std::uint16_t>(argument(1))};
    asio::io_context context{BOOST_ASIO_CONCURRENCY_HINT_UNSAFE}; // one thread: no locks
    crawl all{context, site, argument(3)};
    asio::co_spawn(context, all.run(argument(2)), asio::detached);
    context.run();
}
