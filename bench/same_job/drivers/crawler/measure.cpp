// The measurement of the crawler job. It plays the site.

#include "../expect.hpp"
#include "../peer.hpp"
#include "../window.hpp"
#include "server.hpp"

#include <algorithm>
#include <charconv>

namespace creel::bench::same_job::crawler {
namespace {

// The measured site has no end. Page 0 links to the first page of each of `chains` chains. Each
// further page links to the next page of its chain and to 19 pages near it, which are known
// already. So the list of pages that the program knows and has not fetched keeps its length.
constexpr std::uint64_t first_page = 1'000'000'000; // so all numbers have ten digits
constexpr std::size_t links_of_page = 20;
constexpr std::size_t link_bytes = 12;
constexpr std::size_t text_bytes = 90; // after each link
constexpr std::size_t page_bytes = links_of_page * (link_bytes + text_bytes);

// The response to the request for a page. Only its links change from page to page.
class page_text {
public:
    page_text()
        : bytes_("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(page_bytes) + "\r\n\r\n") {
        head_bytes_ = bytes_.size();
        for (std::size_t i = 0; i < links_of_page; ++i)
            bytes_ += "/0000000000\n" + std::string(text_bytes - 1, 'x') + '\n';
    }

    // `index`: of the page, from 0.
    std::string_view with_links(std::uint64_t index, std::uint64_t chains) {
        write_link(0, index + chains);
        for (std::size_t i = 1; i < links_of_page; ++i)
            write_link(i, index > i ? index - i : 0);
        return bytes_;
    }

private:
    void write_link(std::size_t place, std::uint64_t index) {
        char* const digits = bytes_.data() + head_bytes_ + place * (link_bytes + text_bytes) + 1;
        std::to_chars(digits, digits + 10, first_page + index);
    }

    std::string bytes_;
    std::size_t head_bytes_ = 0;
};

class endless_site {
public:
    endless_site(unsigned tasks, std::uint64_t chains, std::uint64_t settled_pages)
        : tasks_(tasks), chains_(chains), settled_pages_(settled_pages) {}

    void serve(io::tcp_stream& peer) {
        page_text text;
        clock::time_point sent{}; // the response before
        while (const auto number = next_request(peer)) {
            const auto now = clock::now();
            if (*number == 0) {
                first_request_ = now;
                send(peer, page_of_chains());
                continue;
            }
            const std::uint64_t index = *number - first_page;
            note_request(index);
            if (sent == clock::time_point{})
                wait_in_line();
            else
                made_.latencies.record(static_cast<std::uint64_t>((now - sent).count()));
            const auto response = text.with_links(index, chains_);
            sent = clock::now();
            send(peer, response);
            if (++made_.operations == settled_pages_)
                settled_.set();
        }
    }

    // Each worker waits for its first page, which is held back until release().
    void wait_until_all_wait() { all_wait_.wait(); }
    void release() { released_.set(); }
    void wait_until_settled() { settled_.wait(); }

    [[nodiscard]] clock::time_point first_request() const { return first_request_; }

    // Its operations are the pages that were handed over. The latency of a page: from the moment
    // when a fiber of the site sends a response until the next request on the same connection is
    // seen. Meanwhile the program reads the page, looks up its links and asks for another page. The
    // site submits its sends in batches, so the time that a response waits for its batch counts.
    [[nodiscard]] progress& made() { return made_; }

private:
    [[nodiscard]] std::string page_of_chains() const {
        std::string body;
        for (std::uint64_t i = 0; i < chains_; ++i)
            body += '/' + std::to_string(first_page + i) + '\n';
        return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
               body;
    }

    // The first pages of the chains are known, and so is each page after one that was asked for.
    void note_request(std::uint64_t index) {
        if (index >= known_)
            throw std::runtime_error("the program asked for a page to which no page links");
        if (index >= asked_.size())
            asked_.resize(2 * index + 1024);
        if (asked_[index])
            throw std::runtime_error("the program asked twice for a page");
        asked_[index] = true;
        known_ = std::max(known_, index + chains_ + 1);
    }

    void wait_in_line() {
        if (++waiting_ == tasks_)
            all_wait_.set();
        released_.wait();
    }

    unsigned tasks_;
    std::uint64_t chains_;
    std::uint64_t settled_pages_;
    unsigned waiting_ = 0;
    sync::event all_wait_{};
    sync::event released_{};
    sync::event settled_{};
    clock::time_point first_request_{};
    std::uint64_t known_ = chains_;
    std::vector<bool> asked_{};
    progress made_{};
};

// The resident memory of a program, in bytes.
struct footprint {
    double waiting = 0; // each worker waits for its first page
    double settled = 0; // it has fetched a fixed number of pages
};

// Runs the program with so many workers until it has fetched a fixed number of pages, and then
// calls measure_further(program, site) while it crawls on.
template <class F>
footprint crawl_without_end(const std::string& path, const load& wanted, unsigned tasks,
                            F&& measure_further) {
    constexpr unsigned highest_rate = 1'000'000;
    endless_site pages{tasks, std::uint64_t{2} * wanted.tasks,
                       std::uint64_t{4} * wanted.tasks + 2000};
    io::tcp_listener listener{io::endpoint::loopback_v4(0)};
    program crawler{path,
                    {.arguments = arguments(listener, tasks, highest_rate),
                     .count_allocations = wanted.count_allocations}};
    footprint memory;
    with_nursery([&](nursery& connections) {
        accept_all(connections, listener, [&](io::tcp_stream& peer) { pages.serve(peer); });
        pages.wait_until_all_wait();
        memory.waiting = crawler.idle_bytes();
        pages.release();
        pages.wait_until_settled();
        memory.settled = crawler.resident_bytes();
        measure_further(crawler, pages);
        connections.cancel();
    });
    return memory;
}

} // namespace

// The memory of a worker is the difference to a program with one worker, at the same point of the
// crawl. So the list of known pages does not count: it is as long in both, but after the window it
// would be longer in a faster program.
measurement measure(const std::string& path, const load& wanted) {
    return io::run([&] {
        measurement seen{};
        const auto one = within(patience, "a crawl with one worker", [&] {
            return crawl_without_end(path, wanted, 1, [](auto&, auto&) {});
        });
        const auto all = within_measurement(wanted, [&] {
            return crawl_without_end(path, wanted, wanted.tasks, [&](auto& crawler, auto& pages) {
                measure_window(crawler, wanted, pages.made(), seen);
                seen.start_nanoseconds = in_nanoseconds(pages.first_request() - crawler.started());
            });
        });
        if (wanted.tasks > 1) {
            seen.idle_bytes = (all.waiting - one.waiting) / (wanted.tasks - 1);
            seen.busy_bytes = (all.settled - one.settled) / (wanted.tasks - 1);
        }
        return seen;
    });
}

} // namespace creel::bench::same_job::crawler
