// crawler PORT TASKS RATE: fetches a site, each page once, with TASKS workers.
#include "../coroutine/group.hpp"
#include "../coroutine/queue.hpp"
#include "../coroutine/rate_limiter.hpp"
#include "../coroutine/sleep.hpp"
#include "../coroutine/stream.hpp"
#include "../wire.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

namespace {

using namespace same_job;
using namespace same_job::coroutine;

struct response {
    unsigned status;
    std::string_view body; // valid until the next request
};

// A worker's side of the site.
class client {
public:
    explicit client(std::uint16_t port) : port_(port) {}

    // Empty if the connection broke, or the page has not come in time. The connection is kept only
    // after a whole response: in every other case, a cancel too, it closes here.
    task<std::optional<response>> get(std::uint64_t page) {
        stream used = std::move(kept_);
        try {
            const auto reply = co_await timeout(fetch_deadline, exchange(used, page));
            kept_ = std::move(used);
            co_return reply;
        } catch (const timed_out&) {
        } catch (const std::runtime_error&) { // of the connection, or of exchange()
        }
        co_return std::nullopt;
    }

private:
    static constexpr std::size_t most_bytes = longest_line + longest_page;

    task<response> exchange(stream& used, std::uint64_t page) {
        if (!used)
            used = co_await stream::connect(port_);
        write_request(request_, page);
        co_await used.send_all(std::as_bytes(std::span{request_}));
        std::size_t received = 0;
        page_head head;
        for (;;) {
            const auto state = parse({bytes_.get(), received}, head);
            if (state == head_state::malformed)
                throw std::runtime_error{"malformed response"};
            if (state == head_state::complete)
                break;
            received += co_await receive(used, received);
        }
        while (received < head.total_bytes())
            received += co_await receive(used, received);
        co_return response{head.status, {bytes_.get() + head.head_bytes, head.body_bytes}};
    }

    task<std::size_t> receive(const stream& from, std::size_t received) {
        const auto room = std::span{bytes_.get(), most_bytes}.subspan(received);
        const std::size_t count = co_await from.recv(std::as_writable_bytes(room));
        if (count == 0)
            throw std::runtime_error{"response ends early"};
        co_return count;
    }

    std::uint16_t port_;
    stream kept_{};
    std::string request_{};
    std::unique_ptr<char[]> bytes_ = std::make_unique_for_overwrite<char[]>(most_bytes);
};

class crawl {
public:
    crawl(std::uint16_t port, double rate) : port_(port), limit_(rate, rate_burst) {}

    task<> run(std::uint64_t tasks) {
        add(0);
        co_await with_group([this, tasks](group& workers) -> task<> {
            for (std::uint64_t i = 0; i < tasks; ++i)
                workers.spawn(work());
            co_return;
        });
        std::printf("%ju %ju %ju\n", std::uintmax_t{fetched_}, std::uintmax_t{failed_},
                    std::uintmax_t{bytes_});
    }

private:
    task<> work() {
        client site{port_};
        while (const auto page = co_await pages_.pop()) {
            if (const auto body = co_await fetch(site, *page)) {
                ++fetched_;
                bytes_ += body->size();
                for_each_link(*body, [this](std::uint64_t link) { add(link); });
            } else {
                ++failed_;
            }
            if (--unfinished_ == 0)
                pages_.close();
        }
    }

    task<std::optional<std::string_view>> fetch(client& site, std::uint64_t page) {
        auto pause = first_backoff;
        for (unsigned tries = 1;; ++tries) {
            co_await limit_.acquire();
            const auto reply = co_await site.get(page);
            if (reply && reply->status == 200)
                co_return reply->body;
            if (tries == fetch_tries || (reply && reply->status != 503))
                co_return std::nullopt;
            co_await sleep_for(pause);
            pause *= 2;
        }
    }

    void add(std::uint64_t page) {
        if (known_.insert(page).second && pages_.try_push(std::uint64_t{page}))
            ++unfinished_;
    }

    std::uint16_t port_;
    rate_limiter limit_;
    // Known, and not fetched. As long as the site makes it: a worker must not wait for a worker.
    queue<std::uint64_t> pages_{std::numeric_limits<std::size_t>::max()};
    std::unordered_set<std::uint64_t> known_{};
    std::uint64_t unfinished_ = 0;
    std::uint64_t fetched_ = 0;
    std::uint64_t failed_ = 0;
    std::uint64_t bytes_ = 0;
};

} // namespace

int main(int argc, char** argv) {
    if (argc != 4)
        return 2;
    const auto argument = [&](int i) { return number(argv[i]).value(); };
    crawl site{static_cast<std::uint16_t>(argument(1)), static_cast<double>(argument(3))};
    run(site.run(argument(2)));
}
