// The drivers of the crawler job: they play the site.

#include "job.hpp"
#include "program.hpp"

#include "../../statistics.hpp"
#include "../wire.hpp"

#include <creel/creel.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace creel::bench::same_job {
namespace {

using namespace ::same_job;
using clock = std::chrono::steady_clock;

constexpr auto patience = 20s; // for each crawl of the check, and in the measurement
// How long the program waits for a page that does not come. That is 1 s, but on a busy machine the
// site sees the request late, and so does the program the end of its wait.
constexpr auto shortest_patience = 500ms;
constexpr auto longest_patience = 3s;

// Runs f. Its errors get its name.
void within(clock::duration limit, const std::string& what, const std::function<void()>& f) {
    try {
        fail_after(limit, f);
    } catch (const timed_out&) {
        throw std::runtime_error(
            what + ": not done after " +
            std::to_string(std::chrono::round<std::chrono::seconds>(limit).count()) + " s");
    } catch (const std::exception& error) {
        throw std::runtime_error(what + ": " + error.what());
    }
}

void send(io::tcp_stream& peer, std::string_view bytes) {
    peer.send_all(std::as_bytes(std::span{bytes}));
}

// The page that the next request asks for. Empty at the end of the connection.
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

// Sees whether this process stood still. Each page has a deadline of the program's own, so a site
// that stands still gets requests that it did not expect.
class pulse {
public:
    // Beats until it is cancelled.
    [[noreturn]] void run() {
        for (;;) {
            note();
            this_fiber::sleep_for(20ms);
        }
    }
    [[nodiscard]] bool stood_still() {
        note();
        return longest_ > 200ms;
    }

private:
    void note() {
        const auto now = clock::now();
        longest_ = std::max(longest_, now - last_);
        last_ = now;
    }

    clock::time_point last_ = clock::now();
    clock::duration longest_{};
};

// Accepts until it is cancelled. Each connection runs serve(peer) as a child of the nursery.
void accept_all(nursery& connections, io::tcp_listener& listener,
                const std::function<void(io::tcp_stream&)>& serve) {
    connections.spawn([&connections, &listener, serve] {
        for (;;)
            connections.spawn([&serve, peer = listener.accept()]() mutable {
                peer.set_linger(0s); // a close is a reset: the ports of thousands would stay in use
                try {
                    serve(peer);
                } catch (const std::system_error&) { // the program may break it off at any time
                }
            });
    });
}

// What the site does with a request instead of a response.
enum class fault : unsigned char {
    unavailable,  // status 503
    close_before, // an end of file
    close_within, // in the middle of the page
    reset_before,
    reset_within,
    silent,    // nothing for longer than the program waits
    trickling, // the page, so slowly that all of it takes longer
    malformed, // a head that is none
};

struct page {
    unsigned status = 200;
    std::string body{};
    bool is_empty = false;       // it has no body
    std::vector<fault> faults{}; // of its first requests
    bool fails = false;          // each further request has the last of these faults, too
    std::size_t piece_bytes = 0; // sent in one call; 0: all
    bool closes_after = false;   // the connection, after the page

    // What has happened:
    std::size_t requests = 0;
    // Its first try may have been lost on a connection that the site had closed. The site does not
    // see such a try, and leaves out one of four faults, so that the page does not fail.
    bool may_have_lost_try = false;
    std::size_t left_out = 0;
    bool done = false;              // the program has got the page, or must give up
    clock::time_point not_before{}; // for the next request
};

using page_table = std::unordered_map<std::uint64_t, page>;

// A site that the program crawls once.
class site {
public:
    site(page_table pages, unsigned tasks, unsigned rate)
        : pages_(std::move(pages)), tasks_(tasks), rate_(rate) {}

    void serve(io::tcp_stream& peer) {
        ++connections_;
        bool fresh = true;
        while (const auto number = next_request(peer)) {
            if (!answer(peer, *number, fresh))
                return;
            fresh = false;
        }
    }

    // Holds back all responses but that of page 0, until each worker waits for one.
    void hold_until_all_wait() {
        move_on_after(patience / 2, [&] { all_wait_.wait(); });
        if (waiting_ < tasks_)
            throw_too_few_wait();
        this_fiber::sleep_for(20ms); // would one too many ask?
        all_may_go_.set();
    }
    void hold_nothing() { all_may_go_.set(); }

    // Throws if the program has not kept to its job.
    void compare(const std::string& line, clock::time_point started) const {
        std::uint64_t fetched = 0;
        std::uint64_t failed = 0;
        std::uint64_t bytes = 0;
        for (const auto& [number, one] : pages_) {
            check_requests(number, one);
            if (one.fails || one.status != 200) {
                ++failed;
            } else {
                ++fetched;
                bytes += one.body.size();
            }
        }
        const auto right =
            std::to_string(fetched) + ' ' + std::to_string(failed) + ' ' + std::to_string(bytes);
        if (line != right)
            throw std::runtime_error("the program printed '" + line + "' instead of '" + right +
                                     "'");
        check_rate(started);
        if (connections_ > tasks_ + ended_connections_)
            throw std::runtime_error("the program opened " + std::to_string(connections_) +
                                     " connections, but " + std::to_string(tasks_) +
                                     " workers have lost at most " +
                                     std::to_string(ended_connections_));
    }

private:
    [[noreturn]] void throw_too_few_wait() const {
        throw std::runtime_error("only " + std::to_string(waiting_) + " of " +
                                 std::to_string(tasks_) + " workers asked at the same time");
    }

    // False if the connection ends here. `fresh`: this is its first request.
    bool answer(io::tcp_stream& peer, std::uint64_t number, bool fresh) {
        const auto found = pages_.find(number);
        if (found == pages_.end())
            throw std::runtime_error("the program asked for page " + std::to_string(number) +
                                     ", and no page links to it");
        page& one = found->second;
        const auto asked = clock::now();
        note_request(number, one, fresh, asked);
        wait_in_line(number);
        const std::size_t index = one.requests - 1 + one.left_out;
        if (index < one.faults.size())
            return fail(peer, number, one, one.faults[index], asked);
        if (one.fails)
            return fail(peer, number, one, one.faults.back(), asked);
        return deliver(peer, one);
    }

    void note_request(std::uint64_t number, page& one, bool fresh, clock::time_point now) {
        requests_.push_back(now);
        if (one.done)
            throw std::runtime_error("the program asked again for page " + std::to_string(number));
        if (one.requests != 0 && !all_may_go_.is_set())
            throw_too_few_wait(); // the program gave up a page that is held back
        if (one.requests == 0) {
            one.may_have_lost_try = fresh && closes_ != 0;
            one.left_out = one.may_have_lost_try && one.faults.size() == fetch_tries - 1 ? 1 : 0;
        } else if (now < one.not_before)
            throw std::runtime_error("the program began try " + std::to_string(one.requests + 1) +
                                     " of page " + std::to_string(number) + " too early");
        if (++one.requests == fetch_tries && one.fails)
            one.done = true;
    }

    void wait_in_line(std::uint64_t number) {
        if (++waiting_ > tasks_)
            throw std::runtime_error("more than " + std::to_string(tasks_) + " workers ask");
        if (number != 0) {
            if (waiting_ == tasks_)
                all_wait_.set();
            all_may_go_.wait();
        }
        --waiting_;
    }

    bool deliver(io::tcp_stream& peer, page& one) {
        one.done = true;
        const auto text = response(one.status, one.body);
        const bool closes = one.closes_after;
        if (closes || one.status != 200)
            ++ended_connections_;
        if (closes) {
            ++closes_;
            peer.set_linger(std::nullopt);
        }
        const std::size_t piece = one.piece_bytes == 0 ? text.size() : one.piece_bytes;
        for (std::size_t sent = 0; sent < text.size(); sent += piece) {
            if (sent != 0)
                this_fiber::sleep_for(500us);
            send(peer, std::string_view{text}.substr(sent, piece));
        }
        return !closes;
    }

    bool fail(io::tcp_stream& peer, std::uint64_t number, page& one, fault what,
              clock::time_point asked) {
        ++ended_connections_;
        const auto pause = first_backoff * (1U << (one.requests - 1));
        one.not_before = clock::now() + pause;
        const auto half = [&] {
            const auto text = response(one.status, one.body);
            send(peer, std::string_view{text}.substr(0, text.size() - one.body.size() / 2 - 1));
        };
        switch (what) {
        case fault::unavailable:
            send(peer, response(503, "/7\nbusy\n"));
            return true;
        case fault::close_before:
            peer.set_linger(std::nullopt);
            return false;
        case fault::close_within:
            peer.set_linger(std::nullopt);
            half();
            return false;
        case fault::reset_before:
            return false;
        case fault::reset_within:
            half();
            this_fiber::sleep_for(1ms);
            return false;
        case fault::silent:
            one.not_before = asked + shortest_patience + pause;
            break;
        case fault::trickling:
            one.not_before = asked + shortest_patience + pause;
            trickle(peer, number, one);
        case fault::malformed:
            send(peer, malformed_head(number));
            break;
        }
        expect_end(peer, number);
        return false;
    }

    // Ends when the program closes the connection.
    [[noreturn]] static void trickle(io::tcp_stream& peer, std::uint64_t number, const page& one) {
        const auto text = response(one.status, one.body);
        const auto end = clock::now() + longest_patience;
        for (std::size_t sent = 0; clock::now() < end; ++sent) {
            send(peer, std::string_view{text}.substr(sent, 1));
            this_fiber::sleep_for(100ms);
        }
        throw_still_waits(number);
    }

    [[noreturn]] static void throw_still_waits(std::uint64_t number) {
        throw std::runtime_error("the program still waits for page " + std::to_string(number));
    }

    static void expect_end(io::tcp_stream& peer, std::uint64_t number) {
        std::array<std::byte, 1> more{};
        const auto received = move_on_after(longest_patience, [&] { return peer.recv(more); });
        if (!received)
            throw_still_waits(number);
        if (*received != 0)
            throw std::runtime_error("the program used a connection again on which page " +
                                     std::to_string(number) + " had failed");
    }

    static std::string response(unsigned status, const std::string& body) {
        return "HTTP/1.1 " + std::to_string(status) + " Some Reason\r\nServer: bench\r\n" +
               "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
    }

    static std::string malformed_head(std::uint64_t number) {
        const std::array<std::string, 6> heads{
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n/1\n",
            "HTTP/1.1 200 OK\r\nServer: bench\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n/1\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n/1\n", // a page that is too long
            "HTTP/1.1 XYZ OK\r\nContent-Length: 3\r\n\r\n/1\n",
            "HTTP/1.1 200 OK\r\nServer: " + std::string(2 * longest_line, 'x'),
        };
        return heads[number % heads.size()];
    }

    static void check_requests(std::uint64_t number, const page& one) {
        std::size_t most = one.faults.size() + 1 - one.left_out;
        std::size_t least = most;
        if (one.fails) {
            most = fetch_tries;
            least = most - (one.may_have_lost_try ? 1 : 0);
            if (one.faults.back() == fault::malformed) // the job does not say if it is tried again
                least = 1;
        }
        if (one.requests < least || one.requests > most)
            throw std::runtime_error("the program asked " + std::to_string(one.requests) +
                                     " times for page " + std::to_string(number) + " and not " +
                                     std::to_string(most) + " times");
    }

    // Each worker may have begun one request before the first of a stretch came, which comes later.
    void check_rate(clock::time_point started) const {
        const auto allowed = [&](clock::duration stretch) {
            return std::chrono::duration<double>(stretch).count() * rate_ + rate_burst;
        };
        for (std::size_t end = 0; end < requests_.size(); ++end) {
            if (static_cast<double>(end + 1) > allowed(requests_[end] - started))
                throw_too_fast(end + 1, requests_[end] - started);
            for (std::size_t begin = 0; begin < end; ++begin)
                if (static_cast<double>(end - begin) >
                    allowed(requests_[end] - requests_[begin]) + tasks_)
                    throw_too_fast(end - begin, requests_[end] - requests_[begin]);
        }
    }

    [[noreturn]] void throw_too_fast(std::size_t count, clock::duration stretch) const {
        throw std::runtime_error(
            "the program began " + std::to_string(count) + " requests in " +
            std::to_string(std::chrono::round<std::chrono::milliseconds>(stretch).count()) +
            " ms, at a rate of " + std::to_string(rate_) + " a second");
    }

    page_table pages_;
    unsigned tasks_;
    unsigned rate_;
    unsigned waiting_ = 0; // requests that are not answered yet
    sync::event all_wait_{};
    sync::event all_may_go_{};
    std::vector<clock::time_point> requests_{}; // when they came
    std::size_t connections_ = 0;
    std::size_t closes_ = 0;            // of kept connections, after a page
    std::size_t ended_connections_ = 0; // that have ended, or that the program may have given up
};

// A tree with links in all directions. Its pages have no faults.
constexpr std::uint64_t tree_pages = 200;

void add_tree(page_table& pages) {
    for (std::uint64_t i = 0; i < tree_pages; ++i) {
        auto& body = pages[i].body;
        for (const std::uint64_t link :
             {2 * i + 1, i, 2 * i + 2, i / 2, std::uint64_t{0}, 2 * i + 1})
            if (link < tree_pages)
                body += '/' + std::to_string(link) + "\nsome text\n\n";
        body += "/\n/12x\nno /12345 link\n/99999999999999999999\n";
    }
}

// Adds pages that page 0 links to.
class special_pages {
public:
    explicit special_pages(page_table& all) : all_(all) {}

    void add(page one, int count = 1) {
        for (int i = 0; i < count; ++i)
            add_at(next_++, one);
    }
    void add_at(std::uint64_t number, page one) {
        if (one.body.empty() && !one.is_empty)
            one.body = "/3\nThis is page " + std::to_string(number) + ".\n/0\n";
        all_[0].body += '/' + std::to_string(number) + '\n';
        all_[number] = std::move(one);
    }

private:
    page_table& all_;
    std::uint64_t next_ = 1000;
};

page_table faulty_site() {
    using enum fault;
    page_table pages;
    add_tree(pages);
    special_pages special{pages};
    special.add({.faults = {silent}});
    special.add({.faults = {trickling}});
    for (std::size_t tries = 1; tries < fetch_tries; ++tries)
        special.add({.faults = std::vector(tries, unavailable)}, 3);
    special.add({.faults = {unavailable}, .fails = true}, 3);
    for (const fault what : {close_before, close_within, reset_before, reset_within})
        special.add({.faults = {what}}, 2);
    special.add({.faults = {reset_before, close_within, unavailable, reset_within}}, 2);
    special.add({.faults = {reset_within}, .fails = true});
    special.add({.faults = {malformed}, .fails = true}, 6);
    for (const unsigned status : {404U, 404U, 404U, 500U, 301U})
        special.add({.status = status});
    special.add({.closes_after = true}, 4);
    for (const std::size_t bytes : {1U, 2U, 7U, 50U})
        special.add({.piece_bytes = bytes});
    special.add({.is_empty = true});
    special.add_at(std::numeric_limits<std::uint64_t>::max(), {});
    // The longest page there may be. Its last link ends with the page, and no other page has it.
    std::string longest(longest_page, '-');
    for (std::size_t i = 60; i < longest.size(); i += 61)
        longest[i] = '\n';
    longest.replace(longest.size() - 6, 6, "\n/2000");
    special.add({.body = longest}, 1);
    special.add({.body = longest, .piece_bytes = 20'000});
    pages[2000].body = "/2000\n";
    return pages;
}

page_table site_without_pages() {
    page_table pages;
    pages[0] = {.status = 404, .body = "none"};
    return pages;
}

std::vector<std::string> arguments(const io::tcp_listener& listener, unsigned tasks,
                                   unsigned rate) {
    return {std::to_string(listener.local_endpoint().port()), std::to_string(tasks),
            std::to_string(rate)};
}

void crawl_once(const std::string& path, page_table pages, unsigned tasks, unsigned rate,
                pulse& own) {
    const bool holds = pages.size() > tasks;
    site whole{std::move(pages), tasks, rate};
    io::tcp_listener listener{io::endpoint::loopback_v4(0)};
    program crawler{path, {.arguments = arguments(listener, tasks, rate)}};
    std::string line;
    with_nursery([&](nursery& connections) {
        accept_all(connections, listener, [&](io::tcp_stream& peer) { whole.serve(peer); });
        connections.spawn([&] { own.run(); });
        if (holds)
            whole.hold_until_all_wait();
        else
            whole.hold_nothing();
        line = crawler.read_line();
        if (const int status = crawler.wait(); status != 0)
            throw std::runtime_error("its exit status is " + std::to_string(status));
        connections.cancel();
    });
    whole.compare(line, crawler.started());
}

// A crawl in which the site stood still says nothing about the program, so it is made again.
void crawl(const std::string& what, const std::string& path, const page_table& pages,
           unsigned tasks, unsigned rate) {
    constexpr int most_crawls = 3;
    for (int crawls = 1;; ++crawls) {
        pulse own;
        try {
            within(patience, what, [&] { crawl_once(path, pages, tasks, rate, own); });
            return;
        } catch (const std::runtime_error&) {
            if (crawls == most_crawls || !own.stood_still())
                throw;
        }
    }
}

void check(const std::string& path) {
    io::run([&] {
        crawl("a site without a page", path, site_without_pages(), 4, 1000);
        crawl("a site with faults", path, faulty_site(), 8, 400);
    });
}

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
                turnarounds_.record(static_cast<std::uint64_t>((now - sent).count()));
            const auto response = text.with_links(index, chains_);
            sent = clock::now();
            send(peer, response);
            if (++pages_ == settled_pages_)
                settled_.set();
        }
    }

    // Each worker waits for its first page, which is held back until release().
    void wait_until_all_wait() { all_wait_.wait(); }
    void release() { released_.set(); }
    void wait_until_settled() { settled_.wait(); }

    [[nodiscard]] clock::time_point first_request() const { return first_request_; }
    [[nodiscard]] std::uint64_t pages() const { return pages_; }

    // The latency of a page: from the moment when a fiber of the site sends a response until the
    // next request on the same connection is seen. Meanwhile the program reads the page, looks up
    // its links and asks for another page. The site submits its sends in batches, so the time that
    // a response waits for its batch counts, too.
    [[nodiscard]] const latency_histogram& turnarounds() const { return turnarounds_; }
    void clear_turnarounds() { turnarounds_.clear(); }

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
    std::uint64_t pages_ = 0; // handed over
    std::uint64_t known_ = chains_;
    std::vector<bool> asked_{};
    latency_histogram turnarounds_{};
};

// Waits until the program has nothing to do: for 20 ms it uses no CPU time.
void wait_until_idle(const program& crawler) {
    for (auto before = -1ns; before != crawler.cpu_time();) {
        before = crawler.cpu_time();
        this_fiber::sleep_for(20ms);
    }
}

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
        wait_until_idle(crawler);
        memory.waiting = static_cast<double>(crawler.resident_bytes());
        pages.release();
        pages.wait_until_settled();
        memory.settled = static_cast<double>(crawler.resident_bytes());
        measure_further(crawler, pages);
        connections.cancel();
    });
    return memory;
}

double seconds(std::chrono::duration<double> time) {
    return time.count();
}

// What the program has done so far.
struct moment {
    moment(const program& crawler, const endless_site& pages)
        : time(clock::now()),
          cpu(crawler.cpu_time()),
          allocations(crawler.allocations()),
          fetched(pages.pages()) {}

    clock::time_point time;
    std::chrono::nanoseconds cpu;
    std::uint64_t allocations;
    std::uint64_t fetched;
};

void measure_window(const program& crawler, endless_site& pages, const load& wanted,
                    measurement& seen) {
    this_fiber::sleep_for(wanted.warm_up);
    pages.clear_turnarounds();
    const moment begin{crawler, pages};
    this_fiber::sleep_for(wanted.window);
    const moment end{crawler, pages};
    seen.operations = static_cast<double>(end.fetched - begin.fetched);
    seen.seconds = seconds(end.time - begin.time);
    seen.cpu_seconds = seconds(end.cpu - begin.cpu);
    seen.allocations = static_cast<double>(end.allocations - begin.allocations);
    seen.p50 = pages.turnarounds().percentile(0.5);
    seen.p99 = pages.turnarounds().percentile(0.99);
    seen.p999 = pages.turnarounds().percentile(0.999);
    seen.start_nanoseconds = seconds(pages.first_request() - crawler.started()) * 1e9;
}

// The memory of a worker is the difference to a program with one worker, at the same point of the
// crawl. So the list of known pages does not count: it is as long in both, but after the window it
// would be longer in a faster program.
measurement measure(const std::string& path, const load& wanted) {
    return io::run([&] {
        measurement seen{};
        footprint one;
        footprint all;
        within(patience, "a crawl with one worker",
               [&] { one = crawl_without_end(path, wanted, 1, [](auto&, auto&) {}); });
        within(patience + wanted.warm_up + wanted.window, "the measured crawl", [&] {
            all = crawl_without_end(path, wanted, wanted.tasks, [&](auto& crawler, auto& pages) {
                measure_window(crawler, pages, wanted, seen);
            });
        });
        if (wanted.tasks > 1) {
            seen.idle_bytes = (all.waiting - one.waiting) / (wanted.tasks - 1);
            seen.busy_bytes = (all.settled - one.settled) / (wanted.tasks - 1);
        }
        return seen;
    });
}

} // namespace

const job crawler{"crawler", check, measure};

} // namespace creel::bench::same_job
