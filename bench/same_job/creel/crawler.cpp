// crawler PORT TASKS RATE: fetches a site, each page once, with TASKS workers.
#include "../wire.hpp"

#include <creel/creel.hpp>

#include <cstddef>
#include <cstdint>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace io = creel::io;
using namespace same_job;

namespace {

struct response {
    unsigned status;
    std::string_view body; // valid until the next request
};

// A worker's side of the site.
class client {
public:
    explicit client(const io::endpoint& site) : site_(site) {}

    // Empty if the connection broke, or the page has not come in time. The connection is kept only
    // after a whole response: in every other case, a cancel too, it closes here.
    std::optional<response> get(std::uint64_t page) {
        auto used = std::exchange(kept_, std::nullopt);
        try {
            auto reply = creel::move_on_after(fetch_deadline, [&] {
                if (!used)
                    used = io::tcp_stream::connect(site_);
                write_request(request_, page);
                used->send_all(std::as_bytes(std::span{request_}));
                return receive(*used);
            });
            if (reply)
                kept_ = std::move(used);
            return reply;
        } catch (const std::runtime_error&) { // of the connection, or of receive()
            return std::nullopt;
        }
    }

private:
    static constexpr std::size_t most_bytes = longest_line + longest_page;

    response receive(io::tcp_stream& peer) {
        std::size_t received = 0;
        const auto receive_more = [&] {
            const auto room = std::span{bytes_.get(), most_bytes}.subspan(received);
            const std::size_t count = peer.recv(std::as_writable_bytes(room));
            if (count == 0)
                throw io::unexpected_eof{"response", received};
            received += count;
        };
        page_head head;
        head_state state{};
        while ((state = parse({bytes_.get(), received}, head)) == head_state::incomplete)
            receive_more();
        if (state == head_state::malformed)
            throw std::runtime_error{"malformed response"};
        while (received < head.total_bytes())
            receive_more();
        return {head.status, {bytes_.get() + head.head_bytes, head.body_bytes}};
    }

    io::endpoint site_;
    std::optional<io::tcp_stream> kept_{};
    std::string request_{};
    // On the heap: a large array on a fiber's stack would make the stack resident.
    std::unique_ptr<char[]> bytes_ = std::make_unique_for_overwrite<char[]>(most_bytes);
};

class crawl {
public:
    crawl(int port, std::int64_t rate)
        : site_(io::endpoint::loopback_v4(port)), limit_({.tokens = rate, .burst = rate_burst}) {}

    void run(std::uint64_t tasks) {
        creel::with_nursery([&](creel::nursery& workers) {
            for (std::uint64_t i = 0; i < tasks; ++i)
                workers.spawn([this] { work(); });
            add(0);
            pages_.join();
            pages_.close();
        });
        std::cout << fetched_ << ' ' << failed_ << ' ' << bytes_ << std::endl;
    }

private:
    void work() {
        client site{site_};
        for (const std::uint64_t page : pages_) {
            if (const auto body = fetch(site, page)) {
                ++fetched_;
                bytes_ += body->size();
                for_each_link(*body, [this](std::uint64_t link) { add(link); });
            } else {
                ++failed_;
            }
            pages_.task_done();
        }
    }

    std::optional<std::string_view> fetch(client& site, std::uint64_t page) {
        auto pause = first_backoff;
        for (unsigned tries = 1;; ++tries) {
            limit_.acquire();
            const auto reply = site.get(page);
            if (reply && reply->status == 200)
                return reply->body;
            if (tries == fetch_tries || (reply && reply->status != 503))
                return std::nullopt;
            creel::this_fiber::sleep_for(pause);
            pause *= 2;
        }
    }

    void add(std::uint64_t page) {
        if (known_.insert(page).second)
            static_cast<void>(pages_.push(page)); // never waits, and is open while a page is known
    }

    io::endpoint site_;
    creel::sync::rate_limiter limit_;
    // Known, and not fetched. As long as the site makes it: a worker must not wait for a worker.
    creel::sync::queue<std::uint64_t> pages_{std::numeric_limits<std::int64_t>::max()};
    std::unordered_set<std::uint64_t> known_{};
    std::uint64_t fetched_ = 0;
    std::uint64_t failed_ = 0;
    std::uint64_t bytes_ = 0;
};

} // namespace

int main(int argc, char** argv) {
    if (argc != 4)
        return 2;
    const auto argument = [&](int i) { return number(argv[i]).value(); };
    io::run([&] {
        crawl{static_cast<int>(argument(1)), static_cast<std::int64_t>(argument(3))}.run(
            argument(2));
    });
}
