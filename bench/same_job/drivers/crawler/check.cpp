// The check of the crawler job. It plays the site.

#include "../expect.hpp"
#include "../job.hpp"
#include "../program.hpp"
#include "server.hpp"
#include "site.hpp"

#include <algorithm>
#include <limits>

namespace creel::bench::same_job::crawler {
namespace {

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

} // namespace

void check(const std::string& path) {
    io::run([&] {
        crawl("a site without a page", path, site_without_pages(), 4, 1000);
        crawl("a site with faults", path, faulty_site(), 8, 400);
    });
}

} // namespace creel::bench::same_job::crawler
